//! `tidegate status --cost`: what backends came to, as a table and the hints below it.

use serde_json::json;

use super::client::{Client, Failure};
use super::table::columns;
use crate::admin::view::{Cost, Costs};

const HEADER: [&str; 9] = [
    "service",
    "backend-hours",
    "max",
    "least",
    "saved",
    "requests",
    "spent",
    "per million",
    "month",
];
const NONE: &str = "–";

/// What is shown once.
pub fn frame(client: &Client, since: Option<&str>, json: bool) -> Result<String, Failure> {
    let path = match since {
        Some(since) => format!("/v1/cost?since={since}"),
        None => "/v1/cost".to_owned(),
    };
    let costs: Costs = client.get(&path)?;
    Ok(if json { format!("{}\n", json!(costs)) } else { render(&costs) })
}

fn render(costs: &Costs) -> String {
    let mut text = format!("since {}, whole hours\n", costs.since);
    if costs.services.is_empty() {
        return text + "no service is scaled\n";
    }
    let rows = costs.services.iter().map(row);
    let all = [HEADER.map(String::from).to_vec()].into_iter().chain(rows).collect();
    for line in columns(all, 1..=8) {
        text.push_str(&line);
        text.push('\n');
    }
    for cost in &costs.services {
        for hint in &cost.hints {
            let toml = hint
                .toml
                .replace("[[schedule]]", &format!("[[service.{}.scaling.schedule]]", cost.service));
            text.push_str(&format!(
                "{}: {}\n  {}\n",
                cost.service,
                hint.text,
                toml.replace('\n', "\n  ")
            ));
        }
    }
    text
}

fn row(cost: &Cost) -> Vec<String> {
    let hours = |n: f64| format!("{n:.1}");
    let money = |n: f64, currency: &str| format!("{n:.2} {currency}");
    let spend = cost.spend.as_ref();
    vec![
        cost.service.clone(),
        hours(cost.backend_hours.ran),
        hours(cost.backend_hours.static_max),
        hours(cost.backend_hours.least),
        cost.saved_ratio.map_or(NONE.to_owned(), |saved| format!("{:.0} %", saved * 100.0)),
        format!("{:.0}", cost.requests),
        spend.map_or(NONE.to_owned(), |s| money(s.ran, &s.currency)),
        spend
            .and_then(|s| Some(money(s.per_million_requests?, &s.currency)))
            .unwrap_or(NONE.to_owned()),
        spend.map_or(NONE.to_owned(), |s| match s.month_budget {
            Some(budget) => format!("{:.2} of {}", s.month, money(budget, &s.currency)),
            None => money(s.month, &s.currency),
        }),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::admin::view::{BackendHours, Hint, Spend};

    #[test]
    fn a_line_a_service_and_its_hints() {
        let cost = Cost {
            service: "app".into(),
            observed_hours: 24.0,
            requests: 1e6,
            backend_hours: BackendHours { ran: 60.0, static_max: 240.0, least: 48.5 },
            saved_ratio: Some(0.75),
            above_least_ratio: Some(0.237),
            spend: Some(Spend {
                currency: "EUR".into(),
                per_backend_hour: 0.1,
                ran: 6.0,
                static_max: 24.0,
                least: 4.85,
                per_million_requests: Some(6.0),
                month: 60.5,
                month_forecast: 100.0,
                month_budget: Some(90.0),
            }),
            hints: vec![Hint {
                text: "more at eight".into(),
                toml: "[[schedule]]\nmin = 5".into(),
            }],
        };
        let free =
            Cost { service: "static files".into(), spend: None, hints: Vec::new(), ..cost.clone() };
        let (since, until) = (UNIX_EPOCH.into(), UNIX_EPOCH.into());
        let text = render(&Costs { since, until, services: vec![cost, free] });
        let expected = "\
since 1970-01-01T00:00:00.000Z, whole hours
service        backend-hours     max   least   saved   requests      spent   per million                month
app                     60.0   240.0    48.5    75 %    1000000   6.00 EUR      6.00 EUR   60.50 of 90.00 EUR
static files            60.0   240.0    48.5    75 %    1000000          –             –                    –
app: more at eight
  [[service.app.scaling.schedule]]
  min = 5
";
        assert_eq!(text, expected);
        let none = render(&Costs { since, until, services: Vec::new() });
        assert!(none.ends_with("no service is scaled\n"), "{none}");
    }
}
