//! Floors: what a schedule asks for at least. A wish like a policy's; bounds are the clamp's.

use crate::scale::memory::micros;
use crate::scale::schedule;

use super::{Change, Reason, View};

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    let floor = view.scheduled.floor.filter(|floor| *floor > n)?;
    let left = view.scheduled.until.map(|until| schedule::left(view.sample.wall, until));
    let until = left.map(|left| view.now + micros(left));
    Some(Change { to: floor, reason: Reason::Scheduled, until })
}
