//! What the pipeline remembers between ticks: wishes, changes, flips and waits.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::{Behaviour, Scaling};

use super::{Sample, Wall};

/// Flips of direction are counted over this span.
const FLIP_SPAN: Duration = Duration::from_secs(600);
/// More flips than this within the span double the stabilization window.
const MAX_FLIPS: usize = 6;
/// The window that is doubled where none is configured.
const LEAST_WINDOW: Duration = Duration::from_secs(60);
/// Nothing is done for at least this long after a change from outside.
const OUTSIDE_COOLDOWN: Duration = Duration::from_secs(15);

/// A moment of the samples' clock in µs; what was before it began is negative.
pub type Then = i64;

/// A change of size from the journal: when, from how many, to how many.
pub type Past = (Wall, u32, u32);

/// State of one service's pipeline. Only [`super::Scaler`] writes it; stages read it.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What was wanted before stabilization, oldest first.
    pub wishes: VecDeque<(Micros, u32)>,
    /// Backends added and removed, oldest first.
    pub changes: VecDeque<(Then, i64)>,
    flips: VecDeque<Then>,
    last_was_up: Option<bool>,
    pub last_up: Option<Then>,
    pub last_down: Option<Then>,
    /// The size that was found at the start, and when: what was wanted before it is not known.
    pub found: Option<(Micros, u32)>,
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
        self.book(then(now), from, to);
    }

    /// Books what the journal tells of the time before a restart, oldest first, so that limits,
    /// cooldowns and the flap breaker go on from there.
    pub fn recall(&mut self, past: &[Past], sample: &Sample) {
        for (wall, from, to) in past {
            let ago = sample.wall.0.saturating_sub(wall.0).saturating_mul(1000);
            self.book(then(sample.at).saturating_sub(then(ago)), *from, *to);
        }
    }

    fn book(&mut self, now: Then, from: u32, to: u32) {
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
        let old = |at: Then, span: Micros| at.saturating_add(then(span)) <= then(now);
        while self.wishes.front().is_some_and(|(at, _)| old(then(*at), wish)) {
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
        let since = then(now) - then(micros(period));
        let recent = self.changes.iter().rev().take_while(|(at, _)| *at > since);
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

/// A moment as one that may be before the beginning.
pub fn then(at: Micros) -> Then {
    Then::try_from(at).unwrap_or(Then::MAX)
}

/// A moment in the future of one that may be before the beginning; the beginning if that is over.
pub fn after(at: Then, time: Duration) -> Micros {
    Micros::try_from(at.saturating_add(then(micros(time)))).unwrap_or(0)
}
