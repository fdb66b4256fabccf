//! What the pipeline remembers between ticks: wishes, changes, flips and waits.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::{Behaviour, Scaling};

/// Flips of direction are counted over this span.
const FLIP_SPAN: Duration = Duration::from_secs(600);
/// More flips than this within the span double the stabilization window.
const MAX_FLIPS: usize = 6;
/// The window that is doubled where none is configured.
const LEAST_WINDOW: Duration = Duration::from_secs(60);
/// Nothing is done for at least this long after a change from outside.
const OUTSIDE_COOLDOWN: Duration = Duration::from_secs(15);

/// State of one service's pipeline. Only [`super::Scaler`] writes it; stages read it.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What was wanted before stabilization, oldest first.
    pub wishes: VecDeque<(Micros, u32)>,
    /// Backends added and removed, oldest first.
    pub changes: VecDeque<(Micros, i64)>,
    flips: VecDeque<Micros>,
    last_was_up: Option<bool>,
    pub last_up: Option<Micros>,
    pub last_down: Option<Micros>,
    /// When someone else changed the size.
    pub outside: Option<Micros>,
    /// Nothing is removed before.
    pub hold_until: Micros,
    /// Ticks without telemetry, up to now.
    pub stale: u32,
}

impl Memory {
    pub fn wish(&mut self, now: Micros, n: u32) {
        self.wishes.push_back((now, n));
    }

    /// Books a change of size of our own.
    pub fn changed(&mut self, now: Micros, from: u32, to: u32) {
        let up = to > from;
        self.changes.push_back((now, i64::from(to) - i64::from(from)));
        if self.last_was_up.is_some_and(|last| last != up) {
            self.flips.push_back(now);
        }
        self.last_was_up = Some(up);
        if up {
            self.last_up = Some(now);
        } else {
            self.last_down = Some(now);
        }
    }

    /// Drops what no window reaches any more.
    pub fn forget(&mut self, now: Micros, params: &Scaling) {
        let periods = [&params.up, &params.down].into_iter().flat_map(|b| &b.limits).map(|l| l.per);
        let change = micros(periods.max().unwrap_or_default());
        let wish =
            2 * micros(params.up.stabilization.max(params.down.stabilization).max(LEAST_WINDOW));
        let old = |at: Micros, span: Micros| at + span <= now;
        while self.wishes.front().is_some_and(|(at, _)| old(*at, wish)) {
            self.wishes.pop_front();
        }
        while self.changes.front().is_some_and(|(at, _)| old(*at, change)) {
            self.changes.pop_front();
        }
        while self.flips.front().is_some_and(|at| old(*at, micros(FLIP_SPAN))) {
            self.flips.pop_front();
        }
    }

    /// The size went up and down too often lately.
    pub fn is_flapping(&self) -> bool {
        self.flips.len() > MAX_FLIPS
    }

    /// The downward stabilization window, doubled while flapping.
    pub fn down_window(&self, down: &Behaviour) -> Micros {
        if self.is_flapping() {
            2 * micros(down.stabilization.max(LEAST_WINDOW))
        } else {
            micros(down.stabilization)
        }
    }

    /// Backends added and removed within a period.
    pub fn within(&self, now: Micros, period: Duration) -> (u32, u32) {
        let recent = self.changes.iter().rev().take_while(|(at, _)| at + micros(period) > now);
        recent.fold((0, 0), |(added, removed), (_, by)| match *by {
            by if by > 0 => (added + by as u32, removed),
            by => (added, removed + by.unsigned_abs() as u32),
        })
    }

    /// When the cooldown after a change from outside ends.
    pub fn outside_until(&self, cooldown: Duration) -> Option<Micros> {
        self.outside.map(|at| at + micros(cooldown.max(OUTSIDE_COOLDOWN)))
    }
}

/// A configured time as a number.
pub fn micros(time: Duration) -> Micros {
    time.as_micros() as Micros
}
