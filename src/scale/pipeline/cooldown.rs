//! Waits after a change. An up never waits for a down's cooldown; a down waits for both.

use crate::clock::Micros;
use crate::scale::memory::{self, Then};

use super::{Change, Reason, View};

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    let (memory, params) = (view.memory, view.params);
    let hold = |reason, until: Micros| Change { to: view.from, reason, until: Some(until) };
    let after = |at: Option<Then>, time| at.map(|at| memory::after(at, time));
    let (cooldown, ends) = match n.cmp(&view.from) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => {
            (params.up.cooldown, after(memory.last_up, params.up.cooldown))
        }
        std::cmp::Ordering::Less => {
            let last = memory.last_up.max(memory.last_down);
            (params.down.cooldown, after(last, params.down.cooldown))
        }
    };
    if n < view.from && memory.hold_until > view.now {
        return Some(hold(Reason::RestartHold, memory.hold_until));
    }
    if let Some(until) = memory.outside_until(cooldown).filter(|until| *until > view.now) {
        return Some(hold(Reason::OutsideCooldown, until));
    }
    ends.filter(|until| *until > view.now).map(|until| hold(Reason::Cooldown, until))
}
