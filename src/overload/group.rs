//! Ticks taken together until they say something.

use super::{BINDS, PICKS, Seen};

/// Answers that say something, and seconds after which fewer have to do.
const ENOUGH: u64 = 8;
const LONGEST: f64 = 4.0;
/// The same while it is limited, where little is learned from few.
const PATIENT: f64 = 20.0;
/// Shortest of a limited service: a change must have had its effect.
const SHORTEST: f64 = 1.0;
/// Of one without limits, where an overload is to be seen early, and answers that do there.
const EARLY: f64 = 0.2;
const FIRST: u64 = 20;
/// Groups last so many times what a request takes.
const REQUESTS: f64 = 2.0;

/// Backends that come or go within a group make it useless for comparisons, unless they are so few of all.
const SAME: f64 = 0.05;

#[derive(Debug, Default)]
pub(super) struct Group {
    totals: Totals,
    ticks: u32,
}

/// The sums of a group.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    pub span: f64,
    pub done: u64,
    pub time: f64,
    pub low: u64,
    pub low_time: f64,
    pub low_open: u32,
    pub picks: u64,
    pub near: u64,
    /// Mean of what was in flight, upgraded connections apart.
    pub in_flight: f64,
    /// Requests waited or were shed.
    pub refused: bool,
    /// Who takes requests was not the same all the time.
    pub changed: bool,
    pub serving: f64,
    /// In flight at its first tick and at its last.
    pub first: f64,
    pub last: f64,
}

impl Group {
    pub fn add(&mut self, seen: &[Seen], span: f64, refused: bool) {
        let totals = &mut self.totals;
        totals.span += span;
        totals.refused |= refused;
        let (mut now, mut serving) = (0.0, 0.0);
        totals.low_open = seen.iter().map(|one| one.low_open).sum();
        for one in seen {
            totals.done += one.done;
            totals.time += one.time;
            totals.low += one.low;
            totals.low_time += one.low_time;
            totals.picks += one.picks;
            totals.near += one.near;
            now += f64::from(one.in_flight.saturating_sub(one.tunnels));
            serving += one.ramp;
        }
        if self.ticks == 0 {
            (totals.first, totals.serving) = (now, serving);
        }
        totals.changed |= (serving - totals.serving).abs() > SAME * totals.serving;
        totals.last = now;
        self.ticks += 1;
        totals.in_flight += (now - totals.in_flight) / f64::from(self.ticks);
    }

    pub fn is_whole(&self, limited: bool) -> bool {
        let totals = &self.totals;
        let shortest = if limited { SHORTEST.max(REQUESTS * totals.mean()) } else { EARLY };
        let longest = if limited { PATIENT } else { LONGEST };
        let shortest = shortest.min(longest);
        // A little less, as ticks are never quite on time.
        let enough = if limited { ENOUGH } else { FIRST };
        totals.span >= 0.95 * shortest && totals.done >= enough || totals.span >= longest
    }

    pub fn take(&mut self) -> Totals {
        std::mem::take(self).totals
    }
}

impl Totals {
    /// Requests answered a second.
    pub fn throughput(&self) -> f64 {
        self.done as f64 / self.span.max(1e-9)
    }

    /// Mean seconds of a request; 0 without any.
    pub fn mean(&self) -> f64 {
        self.time / self.done.max(1) as f64
    }

    /// More were under way at its end than at its beginning.
    pub fn grew(&self) -> bool {
        self.last > self.first
    }

    /// Whether limits kept requests back.
    pub fn binds(&self) -> bool {
        self.refused || self.picks > PICKS && self.near as f64 >= BINDS * self.picks as f64
    }
}
