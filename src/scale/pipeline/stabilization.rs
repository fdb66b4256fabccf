//! Stabilization windows, as the HPA has them: down to the largest wish of the window, up to the
//! smallest.
//!
//! Source: `behavior.scaleDown.stabilizationWindowSeconds` of autoscaling/v2.

use crate::clock::Micros;
use crate::scale::memory::micros;

use super::{Change, Reason, View};

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    let up_window = micros(view.params.up.stabilization);
    let down_window = view.memory.down_window(&view.params.down);
    let within = |window: Micros| {
        let wishes = view.memory.wishes.iter().rev();
        wishes.take_while(move |(at, _)| at + window > view.now).copied()
    };
    // As the HPA does, which takes the size that it finds for its first recommendation.
    let found = view.memory.found.filter(|(at, _)| at + up_window > view.now);
    let least = within(up_window).chain(found).map(|(_, wish)| wish).chain([n]).min().unwrap_or(n);
    let most = within(down_window).map(|(_, wish)| wish).chain([n]).max().unwrap_or(n);
    let to = view.from.max(least).min(most);
    let (window, reason) = if to < n {
        (up_window, Reason::Stabilization)
    } else if view.memory.is_flapping() {
        (down_window, Reason::Flapping)
    } else {
        (down_window, Reason::Stabilization)
    };
    // The newest wish that forbids n is the last to leave the window.
    let found = found.filter(|_| to < n);
    let newest =
        within(window).chain(found).find(|(_, wish)| if to < n { *wish < n } else { *wish > n });
    let until = newest.map(|(at, _)| at + window);
    Some(Change { to, reason, until })
}
