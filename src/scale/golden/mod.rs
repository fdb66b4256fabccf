//! What the documentation of the HPA and of Knative's KPA promises, played to our own policies and pipeline.
//!
//! Figures are those of the published examples and tests, worked out again here; what is decided
//! otherwise is said at its case. The simulator's reference policies have tests of their own, and
//! `simulate::published` holds the KPA against them.

mod hpa;
mod kpa;
mod oracle;
mod velocity;

use std::time::Duration;

use crate::config::types::{Metric, QueuePolicy, Scaling};

use super::fixture::{sample, scaler, signal};
use super::{Scaler, Signal, Tick};

/// A service whose orders are carried out at once.
struct Service {
    scaler: Scaler,
    size: u32,
}

impl Service {
    fn new(params: Scaling, size: u32) -> Self {
        Self { scaler: scaler(params), size }
    }

    /// One that goes by what it is told to want.
    fn told(mut params: Scaling, size: u32) -> Self {
        params.queues = vec![("told".into(), told())];
        params.max = params.max.max(10_000);
        Self::new(params, size)
    }

    /// A look at that second with those signals.
    fn look(&mut self, second: u64, signals: Vec<Signal>) -> Tick {
        let mut sample = sample(second, self.size, 0.0);
        sample.signals = signals;
        let tick = self.scaler.tick(&sample);
        self.size = tick.plan.as_ref().map_or(self.size, |plan| plan.size);
        tick
    }

    /// A second at which that many are wanted; how many there are then.
    fn wants(&mut self, second: u64, n: u32) -> u32 {
        self.look(second, vec![signal(told().metric, Some(f64::from(n)))]);
        self.size
    }
}

/// A job for each backend that is wanted.
fn told() -> QueuePolicy {
    let metric = Metric::External("wanted".into());
    QueuePolicy { metric, per_backend: 1.0, max_age: Duration::ZERO }
}
