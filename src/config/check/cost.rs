//! `[service.NAME.scaling.cost]`: what a backend costs.

use crate::config::reader::Reader;
use crate::config::types::Cost;

pub fn read(r: &mut Reader<'_>) -> Cost {
    let cost = Cost {
        per_backend_hour: r.number("per_backend_hour", 0.0..=1e9).or(0.0),
        currency: r.string("currency").and(currency).or("USD"),
        budget_per_month: r.number("budget_per_month", 0.0..=1e12).or(0.0),
    };
    if cost.budget_per_month > 0.0 && cost.per_backend_hour == 0.0 {
        let message = "a budget without a price; add per_backend_hour, such as 0.10";
        r.problem("budget_per_month", message);
    }
    cost
}

/// It is shown beside numbers, whatever it is.
fn currency(text: String) -> Result<String, String> {
    match (1..=8).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        true => Ok(text),
        false => Err(format!("{text:?} is not a currency; write one such as \"EUR\"")),
    }
}
