//! The windows of one backend. Seconds without a request are not kept: 10,000 idle backends cost next
//! to nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Micros;
use crate::telemetry::histogram::{Merged, Sparse};
use crate::telemetry::{BackendStats, PerWorker};

use super::{BACKEND_SPAN, Delta, Total};

/// What happened in some span of time.
#[derive(Debug, Clone)]
pub struct BackendReading {
    /// Time that is covered: at most what was asked for, less while the backend is young.
    pub span: Duration,
    /// Tries per second.
    pub rps: f64,
    pub requests: u64,
    pub failures: u64,
    /// To the head of the answer.
    pub ttfb: Merged,
}

impl BackendReading {
    /// Failed among sent, 0..=1; `None` when nothing was sent.
    pub fn error_ratio(&self) -> Option<f64> {
        (self.requests > 0).then(|| (self.failures as f64 / self.requests as f64).min(1.0))
    }
}

/// Ticks of one backend.
#[derive(Debug, Default)]
pub(super) struct BackendWindow {
    /// First tick.
    since: Option<Micros>,
    last: Micros,
    requests: u64,
    failures: u64,
    ttfb: Delta,
    duration: Total,
    buckets: VecDeque<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    from: Micros,
    to: Micros,
    requests: u64,
    failures: u64,
    ttfb: Sparse,
}

impl BackendWindow {
    pub(super) fn tick(&mut self, now: Micros, stats: &PerWorker<BackendStats>) {
        let requests = stats.sum(|s| s.requests.get());
        let failures = stats.sum(|s| s.failures.total());
        let ttfb = self.ttfb.tick(stats.iter().map(|s| &s.ttfb));
        self.duration.tick(stats.iter().map(|s| &s.duration));
        let from = if self.since.is_some() { self.last } else { now };
        self.since.get_or_insert(now);
        let bucket = Bucket {
            from,
            to: now,
            requests: requests.wrapping_sub(self.requests),
            failures: failures.wrapping_sub(self.failures),
            ttfb,
        };
        (self.last, self.requests, self.failures) = (now, requests, failures);
        if from < now && (bucket.requests > 0 || bucket.failures > 0 || !bucket.ttfb.is_empty()) {
            self.buckets.push_back(bucket);
        }
        let oldest = now.saturating_sub(BACKEND_SPAN.as_micros() as u64);
        while self.buckets.front().is_some_and(|b| b.to <= oldest) {
            self.buckets.pop_front();
            if self.buckets.is_empty() {
                // Not even the room for them.
                self.buckets = VecDeque::new();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.buckets.len()
    }

    pub(super) fn reading(&self, span: Duration) -> Option<BackendReading> {
        let covered = self.last.saturating_sub(self.since?).min(span.as_micros() as u64);
        if covered == 0 {
            return None;
        }
        let oldest = self.last - covered;
        let span = Duration::from_micros(covered);
        let ttfb = Merged::default();
        let mut reading = BackendReading { span, rps: 0.0, requests: 0, failures: 0, ttfb };
        let inside = |b: &&Bucket| b.from.midpoint(b.to) >= oldest;
        for bucket in self.buckets.iter().rev().take_while(inside) {
            reading.requests += bucket.requests;
            reading.failures += bucket.failures;
            reading.ttfb.add(&bucket.ttfb);
        }
        reading.rps = reading.requests as f64 / span.as_secs_f64();
        Some(reading)
    }

    /// Requests and failures only, of at most so much time; 0 of both before the second tick.
    pub(super) fn counts(&self, span: Duration) -> (u64, u64) {
        let oldest = self.last.saturating_sub(span.as_micros() as u64);
        let inside = |b: &&Bucket| b.from.midpoint(b.to) >= oldest;
        let buckets = self.buckets.iter().rev().take_while(inside);
        buckets.fold((0, 0), |(requests, failures), bucket| {
            (requests + bucket.requests, failures + bucket.failures)
        })
    }

    /// Durations of all tries so far.
    pub(super) fn total(&self) -> Option<&Merged> {
        self.duration.merged()
    }
}
