//! Between `min` and `max`; and nothing is removed while fewer than `min` are healthy.

use super::{Change, Reason, View};

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    let params = view.params;
    let change = |to, reason| Some(Change { to, reason, until: None });
    if n > params.max {
        return change(params.max, Reason::AtMax);
    }
    if n < params.min {
        // Also lifts a service that is below it, whatever the limits say.
        if view.from > params.min && view.sample.counts.ready < params.min {
            return change(view.from.min(params.max), Reason::MinHealthy);
        }
        return change(params.min, Reason::AtMin);
    }
    if n < view.from && view.sample.counts.ready < params.min {
        return change(view.from.min(params.max), Reason::MinHealthy);
    }
    None
}
