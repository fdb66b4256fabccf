//! How much may change within a period, with the HPA's arithmetic.
//!
//! Source: `behavior.*.policies` of autoscaling/v2. A period's start size is the present one
//! without what was added in it and with what was removed; percentages are of that; upwards they
//! are rounded up, downwards the remaining number is truncated. All in whole numbers: 110 % of 10
//! is 11.

use crate::clock::Micros;
use crate::config::types::{Behaviour, LimitAmount, ScaleLimit, Select};
use crate::scale::memory;

use super::{Change, Reason, View};

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    if n == view.from {
        return None;
    }
    let up = n > view.from;
    let behaviour = if up { &view.params.up } else { &view.params.down };
    if behaviour.select == Select::Disabled {
        return Some(Change { to: view.from, reason: Reason::Disabled, until: None });
    }
    let (bound, limit) = bound(view, behaviour, up)?;
    let to = if up { n.min(bound.max(view.from)) } else { n.max(bound.min(view.from)) };
    Some(Change { to, reason: Reason::Limit, until: until(view, limit) })
}

/// The furthest size that the limits allow, and the limit that says so.
fn bound<'a>(view: &View<'_>, behaviour: &'a Behaviour, up: bool) -> Option<(u32, &'a ScaleLimit)> {
    let bounds = behaviour.limits.iter().map(|limit| {
        let (added, removed) = view.memory.within(view.now, limit.per);
        // In this order: what was added and removed again may be more than there is now.
        let start = (u64::from(view.from) + u64::from(removed)).saturating_sub(u64::from(added));
        let bound = match (limit.amount, up) {
            (LimitAmount::Backends(k), true) => start + u64::from(k),
            (LimitAmount::Backends(k), false) => start.saturating_sub(u64::from(k)),
            (LimitAmount::Percent(p), true) => (start * (100 + u64::from(p))).div_ceil(100),
            (LimitAmount::Percent(p), false) => start * 100_u64.saturating_sub(u64::from(p)) / 100,
        };
        (u32::try_from(bound).unwrap_or(u32::MAX), limit)
    });
    // "max" is the limit that allows the largest change.
    if up == (behaviour.select == Select::Max) {
        bounds.max_by_key(|(bound, _)| *bound)
    } else {
        bounds.min_by_key(|(bound, _)| *bound)
    }
}

/// When the oldest change leaves the limit's period: more is allowed then.
fn until(view: &View<'_>, limit: &ScaleLimit) -> Option<Micros> {
    let ends = view.memory.changes.iter().map(|(at, _)| memory::after(*at, limit.per));
    let next = ends.into_iter().find(|end| *end > view.now);
    // Nothing changed in the period: this tick's change will be the first.
    Some(next.unwrap_or(view.now + memory::micros(limit.per)))
}
