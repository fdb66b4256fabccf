//! An operator's word goes before every policy and every limit but `min` and `max`.

use super::{Change, Override, Reason, View};

pub fn apply(_: u32, view: &View<'_>) -> Option<Change> {
    let within = |n: u32| n.min(view.params.max).max(view.params.min);
    match view.operator? {
        Override::Pin { replicas, until } => {
            Some(Change { to: within(replicas), reason: Reason::Pinned, until })
        }
        Override::Pause { until } => {
            Some(Change { to: within(view.from), reason: Reason::Paused, until })
        }
    }
}
