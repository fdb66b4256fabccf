//! Days that are alike: what `seasonal` brings where load repeats itself, and that it changes nothing elsewhere.

use std::time::Duration;

use crate::config::types::{Scaling, SloPolicy};

use super::tests::{own, slo_alone};
use super::*;

const DAY: usize = 86_400;

/// With and without.
fn both(load: &Load) -> [Outcome; 2] {
    [true, false].map(|seasonal| {
        let scaling = slo_alone(Some(4.0));
        let slo = scaling.slo.map(|slo| SloPolicy { seasonal, ..slo });
        own(Scaling { slo, interval: Duration::from_secs(5), ..scaling }, load.clone())
    })
}

fn load(days: usize, rate: impl Fn(usize) -> f64) -> Load {
    Load {
        name: "days".into(),
        rates: (0..days * DAY).map(rate).collect(),
        exact: false,
        begins: None,
    }
}

/// Every two hours an hour of 1000 requests/s: from noon of the second day on the steps are known.
#[test]
fn steps_of_every_day_find_backends_that_are_ready() {
    let steps = load(2, |second| if second / 3600 % 2 == 1 { 1000.0 } else { 100.0 });
    let [with, without] = both(&steps);
    let late = |outcome: &Outcome, from: usize| -> f64 {
        outcome.curve.columns.iter().filter(|c| c.from >= from as f64).map(|c| c.late).sum()
    };
    assert!(late(&without, DAY + 13 * 3600) > 5000.0, "each step costs its lead time");
    assert!(late(&with, DAY + 13 * 3600) < 0.01 * late(&without, DAY + 13 * 3600));
    let [with, without] = [with, without].map(|outcome| outcome.summary);
    assert!(with.violations_percent.mean < 0.9 * without.violations_percent.mean);
    assert!(with.cost.mean < 1.02 * without.cost.mean, "{with:?} {without:?}");
}

/// Without a day before, without steps, and with steps that come when they like: the same to the last backend.
#[test]
fn other_loads_are_served_as_without_it() {
    let random =
        |second: usize| 100.0 + 900.0 * fastrand::Rng::with_seed((second / 1200) as u64).f64();
    let sine =
        |second: usize| 600.0 - 500.0 * (second as f64 / DAY as f64 * std::f64::consts::TAU).cos();
    let loads = [
        load(2, |_| 400.0),
        load(2, random),
        load(2, sine),
        Shape::Ramp.load(),
        Shape::Step.load(),
        Shape::Spike.load(),
    ];
    for load in loads {
        let [with, without] = both(&load);
        assert_eq!(with, without);
    }
}
