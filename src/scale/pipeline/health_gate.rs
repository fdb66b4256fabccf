//! Broken backends are no capacity: they come on top of what is needed, and never more than they are.

use super::{Change, Reason, View};

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    let broken = view.sample.counts.broken().min(view.from);
    let to = n.saturating_add(broken);
    (broken > 0).then_some(Change { to, reason: Reason::BrokenBackends, until: None })
}
