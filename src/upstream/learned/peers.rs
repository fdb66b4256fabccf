//! What the backends of one service are measured against: its median latency, its p99, its failures.
//!
//! Looked at every 100 ms, by the first pick that finds it due: a service without requests costs nothing, and
//! no other thread need run for the data plane to adapt.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Micros;
use crate::telemetry::PerWorker;
use crate::telemetry::histogram::Histogram;
use crate::telemetry::recent::Recent;

use super::rule::{self, Latency};
use super::{Learned, PROBE_EVERY, PROBE_LAST, PROBE_MILD, millis, since};

/// Time between looks, in ms. One costs under 0.1 µs a backend; pools of more than a thousand are looked at
/// less often, so that it stays under a thousandth of the time.
const LOOK_EVERY: u32 = 100;
const BACKENDS_A_MS: usize = 10;
/// Time constants: of the durations behind the p99, of the rate.
const P99_TAU: Duration = Duration::from_secs(30);
const RATE_TAU: Duration = Duration::from_secs(10);
/// With no more answers there is no p99 and no p95.
const P99_SAMPLES: f32 = 20.0;

/// Shared by all workers; each word stands for itself, relaxed like those of [`Learned`].
#[derive(Debug)]
pub struct Peers {
    /// Time to the head of answers that were no failures.
    answers: PerWorker<Histogram>,
    /// ms of the last look; 0 = none yet.
    looked: AtomicU32,
    /// f32, µs; 0 = not known. The following as well.
    p99: AtomicU32,
    p95: AtomicU32,
    /// Of the means of ln µs.
    median: AtomicU32,
    /// Median of the shares of failures.
    failing: AtomicU32,
    /// Answers a second.
    rate: AtomicU32,
}

/// What a worker keeps from one of its looks to the next.
#[derive(Debug, Default)]
pub struct Observer {
    recent: Recent,
    rate: f32,
    looked: Option<Micros>,
    known: Vec<Latency>,
    values: Vec<f32>,
}

impl Peers {
    pub fn new(workers: usize) -> Self {
        Self {
            answers: PerWorker::new(workers),
            looked: AtomicU32::new(0),
            p99: AtomicU32::new(0),
            p95: AtomicU32::new(0),
            median: AtomicU32::new(0),
            failing: AtomicU32::new(0),
            rate: AtomicU32::new(0),
        }
    }

    /// A backend answered, and not with a failure, `took` after the request was sent. For `worker`'s thread.
    #[inline]
    pub fn answered(&self, backend: &Learned, worker: usize, took: Micros, now: Micros) {
        self.answers.of(worker).record(took);
        backend.outcome(false, took, now, self);
    }

    /// A backend was given up, `took` after the request was sent, because another answered the same request. It
    /// would have taken longer. At least that is learned: what counts is what it took so far, or what it usually
    /// takes if that is more. For what is usual in the service it is one of the slow ones.
    pub fn outlasted(&self, backend: &Learned, worker: usize, took: Micros, now: Micros) {
        self.answers.of(worker).record(took);
        let latency = backend.latency();
        let usual = if latency.is_known() { latency.mean.exp() as Micros } else { 0 };
        backend.outcome(false, took.max(usual), now, self);
    }

    /// A backend failed, `took` after the request was sent or after it was picked. A client that goes away is
    /// no failure.
    pub fn failed(&self, backend: &Learned, took: Micros, now: Micros) {
        backend.outcome(true, took, now, self);
    }

    /// Whether a look is due; true for one worker only.
    #[inline]
    pub fn is_due(&self, now: Micros, backends: usize) -> bool {
        let now = millis(now);
        let looked = self.looked.load(Relaxed);
        let every = LOOK_EVERY.max((backends / BACKENDS_A_MS) as u32);
        (looked == 0 || since(looked, now) >= every)
            && self.looked.compare_exchange(looked, now, Relaxed, Relaxed).is_ok()
    }

    /// Looks at all backends, and tells each how it stands. The flag says who takes requests: the others do
    /// not count for what is usual.
    pub fn look<'a>(
        &self,
        observer: &mut Observer,
        backends: impl Iterator<Item = (&'a Learned, bool)> + Clone,
        now: Micros,
    ) {
        let passed = Duration::from_micros(now.saturating_sub(observer.looked.unwrap_or(now)));
        observer.looked = Some(now);
        let left = |tau: Duration| (-passed.as_secs_f32() / tau.as_secs_f32()).exp();
        let answers = observer.recent.update(&self.answers, left(P99_TAU));
        if !passed.is_zero() {
            let rate = answers as f32 / passed.as_secs_f32();
            observer.rate += (1.0 - left(RATE_TAU)) * (rate - observer.rate);
        }
        set(&self.rate, observer.rate);
        let recent = Some(&observer.recent).filter(|recent| recent.count() > P99_SAMPLES);
        let quantile = |q| recent.and_then(|recent| recent.quantile(q)).unwrap_or(0.0);
        set(&self.p99, quantile(0.99));
        set(&self.p95, quantile(0.95));

        let Observer { known, values, .. } = observer;
        let serving =
            || backends.clone().filter(|(_, serving)| *serving).map(|(learned, _)| learned);
        values.clear();
        values.extend(serving().map(Learned::failing));
        // The lower of two: a backend that fails is not to excuse itself where there are but two.
        set(&self.failing, crate::ewma::median(values).unwrap_or(0.0));

        known.clear();
        known.extend(serving().map(Learned::latency).filter(Latency::is_known));
        values.clear();
        values.extend(known.iter().map(|latency| latency.mean));
        let median = rule::median(values).filter(|_| known.len() > 1).unwrap_or(0.0);
        set(&self.median, median);
        let shrinkage = rule::shrinkage(known, median);
        let now = millis(now);
        for (learned, _) in backends {
            let latency = learned.latency();
            let slowness = match latency.is_known() && known.len() > 1 {
                true => rule::slowness(latency.mean, median, shrinkage),
                false => 1.0,
            };
            set(&learned.slowness, slowness);
            learned.stand(now, self, None);
        }
    }

    /// What 99 of 100 answers of the last half minute took at most; `None`: not known, which it never is
    /// but with `adaptive` or hedging.
    pub fn usual(&self) -> Option<Micros> {
        Some(self.p99() as Micros).filter(|p99| *p99 > 0)
    }

    /// What 95 of 100 took at most.
    pub fn p95(&self) -> Option<Micros> {
        Some(get(&self.p95) as Micros).filter(|p95| *p95 > 0)
    }

    /// Of the service, in µs; 0 = not known.
    pub(super) fn p99(&self) -> f32 {
        get(&self.p99)
    }

    /// Median share of failures.
    pub(super) fn failing(&self) -> f32 {
        get(&self.failing)
    }

    /// Whether an answer took less than twice the median.
    pub(super) fn is_usual(&self, took: Micros) -> bool {
        let median = get(&self.median);
        median == 0.0 || (took as f32) < 2.0 * median.exp()
    }

    /// Longest wait between the probes of one backend, in ms: they are to be few among the requests.
    pub(super) fn probe_wait(&self) -> u32 {
        let wait = PROBE_EVERY / get(&self.rate).max(0.001) * 1000.0;
        (wait as u32).clamp(PROBE_MILD, PROBE_LAST)
    }
}

fn get(word: &AtomicU32) -> f32 {
    f32::from_bits(word.load(Relaxed))
}

/// Writes only what changes: the line stays in everybody's cache.
fn set(word: &AtomicU32, value: f32) {
    if get(word).to_bits() != value.to_bits() {
        word.store(value.to_bits(), Relaxed);
    }
}
