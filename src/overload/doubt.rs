//! What speaks against an overload where it looks like one: that requests take longer for a reason of their own.

use super::group::Totals;

/// Requests that had no company at their backends.
#[derive(Debug, Default)]
pub(super) struct Alone {
    time: f64,
    count: u64,
    /// Seconds ago.
    pub age: f64,
}

impl Alone {
    /// Takes a group in; `on`: with those before it.
    pub fn look(&mut self, totals: &Totals, on: bool) {
        if totals.low == 0 {
            self.age += totals.span;
        } else if on && self.age == 0.0 {
            (self.time, self.count) = (self.time + totals.low_time, self.count + totals.low);
        } else {
            *self = Self { time: totals.low_time, count: totals.low, age: 0.0 };
        }
    }

    /// Their mean, less what a few may be above it by chance: a standard error, for times as different as exponential ones.
    pub fn at_least(&self) -> f64 {
        let count = self.count.max(1) as f64;
        self.time / count * (1.0 - 1.0 / (count + 1.0).sqrt())
    }
}

/// How it stood when requests were found to take longer.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub in_flight: f64,
    /// Answers a second of each backend in calm.
    pub each: f64,
}

/// Since it looks like an overload.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    pub seconds: f64,
    /// The backends answered less than in calm.
    pub slowed: bool,
}
