//! The result of a load, for people and (as JSON) for programs.

use std::collections::BTreeMap;
use std::time::Instant;

use hdrhistogram::{Counter, Histogram};
use serde::Serialize;

use super::outcome::Cause;
use super::record::Recorder;

/// The result of a load. `planned = sent + not_sent`, and each request that was sent is in
/// exactly one of `completed`, `failures` (5xx of the proxy are in both), `not_connected` and
/// `unfinished`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What all times are counted from.
    #[serde(skip)]
    pub start: Instant,
    pub url: String,
    /// From the start to the last planned request.
    pub seconds: f64,
    pub planned: u64,
    pub sent: u64,
    /// Complete answers of any status.
    pub completed: u64,
    /// Failed requests: on an accepted connection, without a complete answer or with a 5xx of the proxy.
    pub failed: u64,
    pub failures: BTreeMap<Cause, u64>,
    /// Requests without a connection; not in `failed`.
    pub not_connected: BTreeMap<Cause, u64>,
    /// 5xx that a backend answered itself; not in `failed`.
    pub backend_errors: u64,
    /// Requests without a complete answer, or with a status of 400 and above, of whoever.
    pub errors: u64,
    /// Due, but held back by the bound on requests under way: the rate was not kept.
    pub not_sent: u64,
    /// Under way when the load was ended.
    pub unfinished: u64,
    /// Sent once more on a new connection, as the kept one was closed before they were looked at.
    pub resent: u64,
    /// Requests per second that were due, and that were sent.
    pub rate_planned: f64,
    pub rate_sent: f64,
    pub status: BTreeMap<u16, u64>,
    /// From the planned time to the last byte; complete answers below 500.
    pub latency_ms: Latency,
    /// How late requests were sent: what this generator itself adds.
    pub late_ms: Latency,
    /// By `x-origin-id`.
    pub backends: BTreeMap<String, Share>,
    pub connections: u64,
    /// Of answer bodies.
    pub bytes: u64,
    /// By the second in which requests were due.
    pub timeline: Vec<Second>,
}

/// What one backend answered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    pub answers: u64,
    /// Of all answers that named a backend, 0..=1.
    pub share: f64,
}

/// Milliseconds; all 0 without a value. Values above 60 s count as 60 s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// One second of a load, by the time at which requests were due (`answered`: by the answers').
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Second {
    /// From 0.
    pub second: u64,
    pub sent: u64,
    pub not_sent: u64,
    pub completed: u64,
    /// Complete answers that came in this second, whenever their requests were due.
    pub answered: u64,
    pub failed: u64,
    pub not_connected: u64,
    /// As in [`Report::errors`].
    pub errors: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// What only the engine knows.
pub(super) struct Totals {
    pub(super) start: Instant,
    pub(super) url: String,
    pub(super) seconds: f64,
    pub(super) unfinished: u64,
    pub(super) resent: u64,
    pub(super) connections: u64,
}

impl Report {
    pub(super) fn new(recorder: &Recorder, totals: Totals) -> Self {
        let (failures, not_connected) = recorder
            .causes
            .iter()
            .partition::<BTreeMap<Cause, u64>, _>(|(cause, _)| cause.is_failure());
        let sent = recorder.planned - recorder.not_sent;
        let named: u64 = recorder.backends.values().sum();
        let share = |answers: u64| Share { answers, share: answers as f64 / named as f64 };
        let per_second = |count: u64| count as f64 / totals.seconds.max(1e-9);
        Self {
            start: totals.start,
            url: totals.url,
            seconds: totals.seconds,
            planned: recorder.planned,
            sent,
            completed: recorder.completed,
            failed: failures.values().sum(),
            failures,
            not_connected,
            backend_errors: recorder.backend_errors,
            errors: recorder.errors,
            not_sent: recorder.not_sent,
            unfinished: totals.unfinished,
            resent: totals.resent,
            rate_planned: per_second(recorder.planned),
            rate_sent: per_second(sent),
            status: recorder.status.clone(),
            latency_ms: recorder.latency(),
            late_ms: recorder.late(),
            backends: recorder.backends.iter().map(|(id, n)| (id.clone(), share(*n))).collect(),
            connections: totals.connections,
            bytes: recorder.bytes,
            timeline: recorder.timeline(),
        }
    }
}

impl Latency {
    /// Of a histogram in microseconds.
    pub(super) fn of<C: Counter>(histogram: &Histogram<C>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            mean: histogram.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
        }
    }
}
