//! Deadlines of a worker that has 1,000 others armed.

use std::rc::Rc;
use std::time::Duration;

use divan::{Bencher, black_box};

use tidegate::clock::Clock;
use tidegate::worker::timers::{Timer, Timers};

const WAIT: Duration = Duration::from_secs(60);

/// A deadline set and taken back, as twice in a request.
#[divan::bench]
fn arm_and_disarm(bencher: Bencher) {
    let (worker, clock, _others) = worker();
    let (timer, now) = (worker.timer(), clock.now());
    bencher.bench_local(|| {
        timer.arm_in(black_box(now), WAIT);
        timer.disarm();
    });
}

/// A slot made, armed and given back, as once for a connection.
#[divan::bench]
fn whole_life(bencher: Bencher) {
    let (worker, clock, _others) = worker();
    let now = clock.now();
    bencher.bench_local(|| worker.timer().arm_in(black_box(now), WAIT));
}

fn worker() -> (Rc<Timers>, Clock, Vec<Timer>) {
    let clock = Clock::real();
    let worker = Timers::new(clock.clone());
    let others: Vec<Timer> = (0..1000).map(|_| worker.timer()).collect();
    others.iter().for_each(|timer| timer.arm_in(clock.now(), WAIT));
    (worker, clock, others)
}
