//! Knative's Pod Autoscaler: the examples of its documentation and the figures of its tests.
//!
//! Its rates of change are limits here: max-scale-up-rate 1000 is 99900 % for each look,
//! max-scale-down-rate 2 is 50 %. What Knative calls the grace period before zero is `idle_after`.

use super::*;
use crate::clock::Micros;
use crate::scale::fixture::{concurrency, percent, quick, seconds};
use crate::scale::history::History;
use crate::scale::policy::{self, Input, Panic, Policy};
use crate::scale::{Counts, Sample};

const SECOND: Micros = 1_000_000;

/// The policy alone, told the means of both windows.
struct Kpa {
    policy: Box<dyn Policy>,
}

impl Kpa {
    fn new(target: f64) -> Self {
        let mut params = quick();
        params.concurrency = concurrency(target, 1.0);
        Self { policy: policy::build(&params).remove(0) }
    }

    /// What it wants at a moment, with means of 60 s and 6 s.
    fn at(&mut self, second: u64, ready: u32, stable: f64, lately: f64) -> u32 {
        let before = (60.0 * stable - 6.0 * lately) / 54.0;
        assert!(before >= 0.0, "no load has such means");
        let mut history = History::default();
        let now = (second + 1000) * SECOND;
        let span = |ago: u64, span: u64, in_flight: f64| Sample {
            at: now - ago * SECOND,
            span: seconds(span),
            in_flight,
            counts: Counts { ready, ..Counts::default() },
            ..Sample::default()
        };
        history.push(&span(6, 54, before));
        let last = span(0, 6, lately);
        history.push(&last);
        let input = Input {
            now,
            sample: &last,
            history: &history,
            current: ready,
            max_age: seconds(15),
            saturated: false,
            season: None,
        };
        self.policy.propose(&input).n
    }

    fn is_in_panic(&self) -> bool {
        self.policy.panic().is_some()
    }

    fn panicking(target: f64, ago: u64, peak: u32) -> Self {
        let mut kpa = Self::new(target);
        kpa.policy.resume(Panic { last: (1000 - ago) * SECOND, peak });
        kpa
    }
}

#[test]
fn in_flight_over_the_target_rounded_up() {
    for (target, stable, lately, to) in [
        (10.0, 50.0, 10.0, 5),
        (10.0, 100.0, 10.0, 10),
        (10.0, 50.0, 49.0, 5),
        (181.0, 21.0, 26.0, 1),
        (10.0, 1.0, 0.0, 1),
        (10.0, 0.0, 0.0, 0),
        (10.0, 50.1, 49.0, 6),
    ] {
        assert_eq!(Kpa::new(target).at(0, 5, stable, lately), to, "{target} {stable} {lately}");
    }
}

/// Ten at once are allowed, seven are aimed at: the eighth brings another pod.
#[test]
fn target_utilization_leaves_a_margin() {
    let wants = |load: f64| {
        let mut params = quick();
        params.concurrency = concurrency(10.0, 0.7);
        let mut service = Service::new(params, 1);
        let sample = sample(1, 1, load);
        service.scaler.tick(&sample);
        service.scaler.status().desired
    };
    assert_eq!([wants(7.0), wants(7.01), wants(50.0)], [1, 2, 8]);
}

#[test]
fn panic_begins_at_twice_the_ready_ones() {
    let mut kpa = Kpa::new(10.0);
    assert_eq!(kpa.at(0, 5, 50.0, 90.0), 5);
    assert!(!kpa.is_in_panic(), "nine of five is less than 200 %");
    assert_eq!(kpa.at(2, 5, 50.0, 90.1), 10);
    assert!(kpa.is_in_panic(), "ten are wanted, rounded up");
    assert_eq!(Kpa::new(10.0).at(0, 1, 50.0, 100.0), 10, "the larger of both windows");
    assert_eq!(Kpa::new(10.0).at(0, 0, 50.0, 100.0), 10, "none counts as one");
}

#[test]
fn in_panic_the_larger_window_counts_and_nothing_goes() {
    assert_eq!(Kpa::panicking(1.0, 5, 5).at(0, 5, 50.0, 30.0), 50);
    assert_eq!(Kpa::panicking(1.0, 5, 5).at(0, 5, 20.0, 30.0), 30);
    assert_eq!(Kpa::panicking(1.0, 5, 40).at(0, 40, 20.0, 30.0), 40);
}

#[test]
fn load_that_multiplies_is_followed_within_seconds() {
    let mut kpa = Kpa::new(1.0);
    let sizes = [(0, 1, 6.0), (1, 6, 36.0), (2, 36, 216.0), (3, 216, 1296.0), (4, 1296, 1296.0)];
    let wanted = sizes.map(|(second, ready, load)| kpa.at(second, ready, load, load));
    assert_eq!(wanted, [6, 36, 216, 1296, 1296]);
}

#[test]
fn panic_ends_when_a_stable_window_went_without_a_reason() {
    let mut kpa = Kpa::new(1.0);
    assert_eq!(kpa.at(0, 10, 11.0, 25.0), 25);
    // One more every two seconds meanwhile: no new reason.
    assert_eq!(kpa.at(30, 40, 30.0, 41.0), 41);
    assert_eq!(kpa.at(60, 55, 50.0, 56.0), 56, "to the end of the window");
    assert_eq!(kpa.at(62, 55, 50.0, 56.0), 50);
    assert!(!kpa.is_in_panic());
}

#[test]
fn a_new_reason_prolongs_panic() {
    let mut kpa = Kpa::new(1.0);
    assert_eq!(kpa.at(0, 10, 11.0, 25.0), 25);
    assert_eq!(kpa.at(30, 40, 30.0, 80.0), 80);
    assert_eq!(kpa.at(90, 80, 10.0, 10.0), 80, "60 s from the second reason on");
    assert_eq!(kpa.at(92, 80, 10.0, 10.0), 10);
}

#[test]
fn after_a_panic_it_is_forgotten_how_far_it_went() {
    let mut kpa = Kpa::new(10.0);
    assert_eq!(kpa.at(0, 1, 100.0, 100.0), 10);
    assert_eq!(kpa.at(2, 10, 100.0, 1000.0), 100);
    assert_eq!(kpa.at(32, 10, 1.0, 1.0), 100);
    assert_eq!(kpa.at(63, 10, 1.0, 1.0), 1);
    assert_eq!(kpa.at(65, 1, 2.0, 20.0), 2, "the next one begins anew");
}

/// Sizes of the whole pipeline with Knative's rates for each look.
fn rated(up: u32, down: u32, size: u32, load: f64) -> u32 {
    let mut params = quick();
    params.concurrency = concurrency(10.0, 1.0);
    (params.min, params.max) = (1, 1_000_000);
    params.up.limits = vec![percent(up, 2)];
    params.down.limits = vec![percent(down, 2)];
    let mut service = Service::new(params, size);
    service.scaler.tick(&sample(1, size, load));
    service.scaler.status().desired
}

#[test]
fn rates_of_change_are_limits() {
    // max-scale-up-rate 10: a hundred are wanted, ten times as many are there at once.
    assert_eq!([rated(900, 50, 1, 1000.0), rated(900, 50, 10, 1000.0)], [10, 100]);
    // 1.1: 2.2 are rounded up, or it would never grow.
    assert_eq!(rated(10, 50, 2, 40.0), 3);
    // The defaults: 1000 and 2.
    assert_eq!(rated(99_900, 50, 1, 50_000.0), 1000);
    assert_eq!([rated(99_900, 50, 100, 10.0), rated(99_900, 50, 5, 10.0)], [50, 2]);
    // max-scale-down-rate 1.1, as near as whole percents come: 10 %.
    assert_eq!(rated(99_900, 10, 100, 10.0), 90);
}
