//! What came of a change of size: how long until it was there, and what it did to the p99.

use std::time::Duration;

use crate::clock::Micros;

use super::Sample;
use super::memory::micros;
use super::record::Outcome;

/// The p99 is judged this long after the new size is reached: the span it is taken over.
const SETTLE: Duration = Duration::from_secs(15);
/// After this the outcome is told as it is.
const PATIENCE: Duration = Duration::from_secs(600);

/// A change whose outcome is not known yet.
#[derive(Debug, Clone)]
pub struct Watch {
    seq: u64,
    from: u32,
    to: u32,
    since: Micros,
    p99_before: Option<f64>,
    reached: Option<Micros>,
}

impl Watch {
    pub fn new(seq: u64, from: u32, to: u32, sample: &Sample) -> Self {
        Self { seq, from, to, since: sample.at, p99_before: sample.p99, reached: None }
    }

    /// Looks again; the outcome once it is known.
    pub fn look(&mut self, sample: &Sample) -> Option<(u64, Outcome)> {
        let ready = sample.counts.ready;
        let there = if self.to > self.from { ready >= self.to } else { ready <= self.to };
        if there && self.reached.is_none() {
            self.reached = Some(sample.at);
        }
        let known = self.reached.is_some_and(|at| sample.at >= at + micros(SETTLE));
        (known || sample.at >= self.since + micros(PATIENCE)).then(|| self.end(sample))
    }

    /// Tells it as it is: another change came, or time is up.
    pub fn end(&self, sample: &Sample) -> (u64, Outcome) {
        let ms = |seconds: f64| (seconds * 1e4).round() / 10.0;
        let up = self.to > self.from;
        let outcome = Outcome {
            time_to_ready_ms: self.reached.filter(|_| up).map(|at| (at - self.since) / 1000),
            ready: sample.counts.ready,
            p99_before_ms: self.p99_before.map(ms),
            p99_after_ms: sample.p99.filter(|_| self.reached.is_some()).map(ms),
        };
        (self.seq, outcome)
    }
}
