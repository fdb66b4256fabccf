//! The windows of one service: arrivals, exact mean of in-flight, durations, errors. Seconds in which
//! nothing happened are kept as one stretch: a thousand idle services cost next to nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Micros;
use crate::telemetry::histogram::{Merged, Sparse};
use crate::telemetry::{FlowReading, PerWorker, ServiceStats};

use super::{Delta, Stretch, Stretches, Total};

/// What happened in some span of time.
#[derive(Debug, Clone)]
pub struct ServiceReading {
    /// Time that is covered: at most what was asked for, less while the service is young.
    pub span: Duration,
    /// Arrivals per second.
    pub rps: f64,
    /// Mean of the in-flight requests, exact over the span.
    pub in_flight: f64,
    /// In-flight requests at the last tick.
    pub in_flight_now: u64,
    /// Requests that were answered.
    pub finished: u64,
    /// Those answered with a 5xx, ours or a backend's.
    pub failed: u64,
    /// Those answered with a 4xx, and those that clients gave up on (499).
    pub client_errors: u64,
    /// Finished ones whose client went away before an answer began.
    pub abandoned: u64,
    /// Turned away because more came than the backends take.
    pub shed: u64,
    /// Of whole requests.
    pub duration: Merged,
    /// To the head of the answer.
    pub ttfb: Merged,
}

impl ServiceReading {
    /// Failed among finished, 0..=1; `None` when nothing finished.
    pub fn error_ratio(&self) -> Option<f64> {
        self.ratio_of(self.failed)
    }

    /// The time in seconds that this share of the requests did not take longer; `None` without any.
    pub fn seconds(&self, quantile: f64) -> Option<f64> {
        self.duration.quantile(quantile).map(|us| us / 1e6)
    }

    /// So many among the finished ones, 0..=1; `None` when nothing finished.
    pub fn ratio_of(&self, of: u64) -> Option<f64> {
        (self.finished > 0).then(|| of as f64 / self.finished as f64)
    }
}

/// Ticks of one service.
#[derive(Debug)]
pub(super) struct ServiceWindow {
    stats: Arc<PerWorker<ServiceStats>>,
    last: Counts,
    duration: Delta,
    ttfb: Delta,
    /// Of the service's whole life.
    queue_wait: Total,
    stretches: Stretches,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    at: Micros,
    flow: FlowReading,
    finished: u64,
    failed: u64,
    client_errors: u64,
    abandoned: u64,
    shed: u64,
}

impl ServiceWindow {
    pub(super) fn new(stats: Arc<PerWorker<ServiceStats>>, now: Micros) -> Self {
        let last = Counts::read(&stats, now);
        let mut window = Self {
            stats,
            last,
            duration: Delta::default(),
            ttfb: Delta::default(),
            queue_wait: Total::default(),
            stretches: Stretches::default(),
        };
        window.durations();
        window
    }

    pub(super) fn is_of(&self, stats: &Arc<PerWorker<ServiceStats>>) -> bool {
        Arc::ptr_eq(&self.stats, stats)
    }

    pub(super) fn queue_wait(&self) -> Option<&Merged> {
        self.queue_wait.merged()
    }

    /// Keeps what `span` asks for, at most [`SERVICE_SPAN`].
    pub(super) fn tick(&mut self, now: Micros, span: Duration) {
        let last = self.last;
        if now <= last.at {
            return;
        }
        self.queue_wait.tick(self.stats.iter().map(|s| &s.queue_wait));
        let counts = Counts::read(&self.stats, now);
        let (duration, ttfb) = self.durations();
        let stretch = Stretch {
            from: last.at,
            to: now,
            arrivals: counts.flow.arrivals.wrapping_sub(last.flow.arrivals),
            area: counts.flow.area.wrapping_sub(last.flow.area),
            finished: counts.finished.wrapping_sub(last.finished),
            failed: counts.failed.wrapping_sub(last.failed),
            client_errors: counts.client_errors.wrapping_sub(last.client_errors),
            abandoned: counts.abandoned.wrapping_sub(last.abandoned),
            shed: counts.shed.wrapping_sub(last.shed),
            duration,
            ttfb,
        };
        self.last = counts;
        self.stretches.push(stretch, span);
    }

    fn durations(&mut self) -> (Sparse, Sparse) {
        let duration = self.duration.tick(self.stats.iter().map(|s| &s.duration));
        (duration, self.ttfb.tick(self.stats.iter().map(|s| &s.ttfb)))
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.stretches.len()
    }

    pub(super) fn reading(&self, span: Duration) -> Option<ServiceReading> {
        let reading = self.stretches.reading(span)?;
        Some(ServiceReading { in_flight_now: self.last.flow.in_flight, ..reading })
    }
}

impl Counts {
    fn read(stats: &PerWorker<ServiceStats>, now: Micros) -> Self {
        let mut counts = Self {
            at: now,
            flow: FlowReading::default(),
            finished: 0,
            failed: 0,
            client_errors: 0,
            abandoned: 0,
            shed: 0,
        };
        for worker in stats.iter() {
            let flow = worker.flow(now);
            counts.flow.arrivals = counts.flow.arrivals.wrapping_add(flow.arrivals);
            counts.flow.in_flight += flow.in_flight;
            counts.flow.area = counts.flow.area.wrapping_add(flow.area);
            counts.finished += (1..=5).map(|class| worker.class(class)).sum::<u64>();
            counts.failed += worker.class(5);
            counts.client_errors += worker.class(4);
            counts.abandoned += worker.abandoned.get();
            counts.shed += worker.shed_for_capacity();
        }
        counts
    }
}
