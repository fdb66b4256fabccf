//! Nothing is added once the month's budget is spent; what `min` asks for is, and the first one of a service that
//! would not be there at all.

use super::{Change, Reason, View};

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    let budget = view.params.cost.budget_per_month;
    let spent = view.sample.spent.is_some_and(|spent| budget > 0.0 && spent >= budget);
    let most = view.from.max(view.params.min).max(1);
    (spent && n > most).then_some(Change { to: most, reason: Reason::Budget, until: None })
}
