//! Without data nothing is removed, and after three ticks without telemetry nothing is done at all.

use super::{Change, Reason, View};

/// Ticks without telemetry after which nothing is decided.
pub const MAX_STALE: u32 = 3;

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    let hold = |reason| Some(Change { to: view.capacity(), reason, until: None });
    let down = n < view.capacity();
    if view.memory.stale > MAX_STALE {
        hold(Reason::Stale)
    } else if down && view.memory.stale > 0 {
        hold(Reason::StaleUpOnly)
    } else if down && view.proposals.iter().any(|proposal| !proposal.valid) {
        hold(Reason::MetricMissing)
    } else {
        None
    }
}
