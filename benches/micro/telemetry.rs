//! What is counted of every request.

use std::sync::Arc;

use divan::{Bencher, black_box};
use http::Method;

use tidegate::clock::Clock;
use tidegate::ewma::PeakEwma;
use tidegate::telemetry::histogram::Histogram;
use tidegate::telemetry::{InFlight, PerWorker, RouteStats, ServiceStats};
use tidegate::upstream::learned::{Learned, Peers};

use super::world::NOW;

/// Durations as they come: from 64 µs to 65 ms, no two in a row in the same bucket.
fn durations() -> impl FnMut() -> u64 {
    let mut rng = fastrand::Rng::with_seed(7);
    let all: Vec<u64> = (0..1024).map(|_| 1 << rng.u64(6..16) | rng.u64(..64)).collect();
    let mut at = 0;
    move || {
        at = (at + 1) % all.len();
        all[at]
    }
}

#[divan::bench]
fn histogram(bencher: Bencher) {
    let (histogram, mut us) = (Histogram::default(), durations());
    bencher.bench_local(|| black_box(&histogram).record(us()));
}

/// By method and status, with its histogram.
#[divan::bench]
fn route(bencher: Bencher) {
    let (stats, mut us) = (RouteStats::default(), durations());
    bencher.bench_local(|| stats.record(black_box(&Method::GET), black_box(200), us()));
}

/// By class, with its histogram.
#[divan::bench]
fn service(bencher: Bencher) {
    let (stats, mut us) = (ServiceStats::default(), durations());
    bencher.bench_local(|| stats.finished(black_box(200), us()));
}

/// Arrival and end: the in-flight count and its integral.
#[divan::bench]
fn in_flight(bencher: Bencher) {
    let stats = Arc::new(PerWorker::<ServiceStats>::new(1));
    let clock = Clock::real();
    let mut now = NOW;
    bencher.bench_local(|| {
        now += 2;
        let mut request = InFlight::enter(black_box(&stats), 0, &clock, now);
        request.leaves_at(now + 1);
    });
}

/// The latency that `p2c_ewma` goes by.
#[divan::bench]
fn latency(bencher: Bencher) {
    let (ewma, mut us) = (PeakEwma::default(), durations());
    let mut now = NOW;
    bencher.bench_local(|| {
        now += 100;
        black_box(&ewma).record(us() as f32, now);
    });
}

/// What `adaptive` takes in of an answer.
#[divan::bench]
fn learned(bencher: Bencher) {
    let (learned, peers, mut us) = (Learned::default(), Peers::new(1), durations());
    let mut now = NOW;
    bencher.bench_local(|| {
        now += 100;
        peers.answered(black_box(&learned), 0, us(), now);
    });
}

#[divan::bench]
fn clock(bencher: Bencher) {
    let clock = Clock::real();
    bencher.bench_local(|| black_box(&clock).now());
}
