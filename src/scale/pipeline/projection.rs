//! Before removing: with so few, would what the policies see at this moment still fit? Else fewer go.

use super::{Change, Reason, View};

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    let idle = |hold| super::clamp::is_idle(view, hold);
    if n >= view.from || view.params.hold.as_ref().is_some_and(idle) {
        return None;
    }
    let needed = view.needs.unwrap_or(0).saturating_add(view.sample.counts.broken());
    let to = n.max(needed.min(view.from)).min(view.params.max).max(n);
    Some(Change { to, reason: Reason::Projection, until: None })
}
