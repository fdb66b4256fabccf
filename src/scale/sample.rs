//! What one tick saw of one service.
//!
//! The control plane fills a [`Sample`] from the telemetry windows and the registry; nothing in
//! the scaler looks at the world in any other way. Only backends that an orchestrator runs are
//! counted: fixed ones cannot be scaled.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::Metric;

use super::Wall;

/// One tick's observation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// When it was taken; also what `now` is for the decision.
    pub at: Micros,
    /// The same moment for people.
    pub wall: Wall,
    /// Time it covers: since the sample before.
    pub span: Duration,
    pub counts: Counts,
    /// Backends that went away by themselves since the sample before: they served, and nobody had
    /// told them to stop. Others may be in their place already.
    pub lost: u32,
    /// The size the orchestrator aims at; `None` until it was ever told one. A value other than
    /// the scaler's own is a change from outside.
    pub desired: Option<u32>,
    /// Mean number of requests in flight over the tick (integral ÷ time), all backends of the service.
    pub in_flight: f64,
    /// Requests waiting for a backend now.
    pub queued: f64,
    /// With `min = 0`: when a request came last that keeps the service awake; `None`: never.
    pub last_request: Option<Micros>,
    /// What arrived and what was answered, all backends of the service.
    pub traffic: Traffic,
    /// Backends that take requests and are not the scaler's: fixed and discovered ones.
    pub fixed: u32,
    /// Time from the order of a backend to its first pass, p90 of the last starts; `None` until
    /// enough were seen.
    pub lead: Option<Duration>,
    /// The answers to [`super::Scaler::wanted`].
    pub signals: Vec<Signal>,
    /// p99 of the response time over the last 15 s, in seconds; for the record's outcome.
    pub p99: Option<f64>,
    /// Every backend that could be removed or un-drained. May be empty: then the plan has numbers only.
    pub candidates: Vec<Candidate>,
    /// What was spent this month; `None` without a price.
    pub spent: Option<f64>,
    /// Telemetry could not be read this tick; the values are those of the last time.
    pub stale: bool,
}

impl Sample {
    /// The signal a policy asked for. `window` matters where the metric is taken over one.
    pub fn signal(&self, metric: &Metric, quantile: f64, window: Duration) -> Option<&Signal> {
        self.signals.iter().find(|signal| {
            signal.metric == *metric
                && signal.quantile == quantile
                && (signal.window == window || !metric.is_windowed())
        })
    }
}

/// Requests of one tick.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// Requests that came.
    pub arrivals: f64,
    /// Requests at backends at this moment.
    pub busy: f64,
    /// Answered ones, and those of them that failed (5xx).
    pub finished: u64,
    pub failed: u64,
    /// Those of them whose client went away before an answer began: nobody knows how long they would have taken.
    pub abandoned: u64,
    /// Those of the failed ones that were turned away because more came than the backends take.
    pub shed: u64,
    /// Mean time of the answered ones, in seconds; 0 without any.
    pub mean: f64,
    /// The same as a histogram: (about how long in seconds, how many), by length.
    pub durations: Vec<(f64, u64)>,
}

/// How many backends are in which condition. Every backend is in exactly one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ready, healthy and not ejected: capacity.
    pub ready: u32,
    /// Ordered or not yet through their first check: capacity to come.
    pub starting: u32,
    pub draining: u32,
    /// Ready once, failing checks now.
    pub unhealthy: u32,
    /// Healthy by checks, ejected by live traffic.
    pub ejected: u32,
}

impl Counts {
    /// All that are meant to stay: everything but the draining ones.
    pub fn size(&self) -> u32 {
        self.ready + self.starting + self.broken()
    }

    /// There, but no capacity.
    pub fn broken(&self) -> u32 {
        self.unhealthy + self.ejected
    }
}

/// One metric as a policy sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    pub metric: Metric,
    /// For `response_time`; 0 for all others.
    pub quantile: f64,
    /// What it was asked to be taken over.
    pub window: Duration,
    /// In the metric's unit (ratio, bytes, seconds, requests, requests/s); the mean per ready
    /// backend that reports, except for `response_time`, errors and those from elsewhere, which are the service's.
    /// `None`: nobody knows.
    pub value: Option<f64>,
    /// Ready backends that do not report.
    pub missing: u32,
    /// How old the value is.
    pub age: Duration,
    /// Age of the oldest job in seconds, where the metric has one.
    pub oldest: Option<f64>,
}

/// One backend, as far as choosing whom to remove (or to bring back) goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub id: Arc<str>,
    pub zone: Option<Arc<str>>,
    pub life: Life,
    /// Unhealthy or ejected.
    pub broken: bool,
    pub in_flight: u32,
    /// Its latency estimate in seconds; 0 = none yet.
    pub latency: f64,
    /// When it was ordered.
    pub since: Micros,
}

/// Where a candidate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Starting,
    Ready,
    Draining,
}
