//! The HPA's algorithm: Kubernetes documentation, "Algorithm details" and the walkthrough, and the
//! cases of its replica calculator.

use super::*;
use crate::scale::fixture::{params, percent, quick, seconds, target};
use crate::scale::record::{Action, Reason};
use crate::scale::{Counts, Sample};

/// A service with a target for CPU that decides at once.
fn cpu(value: f64) -> Scaling {
    let mut params = quick();
    params.targets = vec![("cpu".into(), target(Metric::Cpu, value))];
    params
}

/// What becomes of a service at that mean CPU, where some are silent and some are starting.
fn next(at: f64, used: f64, ready: u32, silent: u32, starting: u32) -> u32 {
    let mut scaler = scaler(cpu(at));
    let sample = Sample {
        counts: Counts { ready, starting, ..Counts::default() },
        signals: vec![Signal { missing: silent, ..signal(Metric::Cpu, Some(used)) }],
        ..sample(1, ready, 0.0)
    };
    scaler.tick(&sample);
    scaler.status().desired
}

#[test]
fn the_ratio_multiplies_and_is_rounded_up() {
    assert_eq!(next(0.1, 0.2, 3, 0, 0), 6, "200m of 100m doubles");
    assert_eq!(next(0.1, 0.15, 3, 0, 0), 5, "4.5");
    // The walkthrough's: one pod at 305 % of 50 %, then seven.
    assert_eq!(next(0.5, 3.05, 1, 0, 0), 7);
    // The calculator's: 300m, 500m and 700m of 1 core at 30 %.
    assert_eq!(next(0.3, 0.5, 3, 0, 0), 5);
}

#[test]
fn the_walkthrough_from_one_to_seven_and_back() {
    let mut params = params();
    params.max = 10;
    params.targets = vec![("cpu".into(), target(Metric::Cpu, 0.5))];
    let mut service = Service::new(params, 1);
    let mut at = |second: u64, cores: f64| {
        let each = signal(Metric::Cpu, Some(cores / f64::from(service.size)));
        service.look(second, vec![each]);
        service.size
    };
    // The same work on more pods is the same work: the number stays.
    assert_eq!([at(0, 3.05), at(15, 3.05), at(30, 3.05), at(45, 3.05)], [5, 7, 7, 7]);
    // No work any more: five minutes after the last wish for seven.
    assert_eq!([at(60, 0.0), at(200, 0.0), at(344, 0.0)], [7, 7, 7]);
    assert_eq!(at(345, 0.0), 1);
}

#[test]
fn a_tenth_is_tolerated_in_both_directions() {
    for (used, to) in [(0.45, 10), (0.55, 10), (0.449, 9), (0.551, 12)] {
        assert_eq!(next(0.5, used, 10, 0, 0), to, "{used}");
    }
}

/// Figures of the calculator's cases of missing metrics: (target, mean of who reports, ready, silent) → size.
#[test]
fn who_is_silent_damps_both_directions() {
    // 400m and 95m of four, all at 100 % if silent: 2.495.
    assert_eq!(next(1.0, 0.2475, 4, 2, 0), 3);
    // At the target nothing is assumed.
    assert_eq!(next(1.0, 1.0, 2, 1, 0), 2);
    // 190 %, and nothing of the other: 95 % is within the tolerance.
    assert_eq!(next(1.0, 1.9, 2, 1, 0), 2);
    // 60 % and 100 % is 80 %: ceil(1.6).
    assert_eq!(next(1.0, 0.6, 2, 1, 0), 2);
}

/// The calculator's cases of pods that are not ready yet.
#[test]
fn who_is_starting_damps_the_way_up_only() {
    // 500m and 700m at 30 % would be four of two; the third counts with nothing and does not add up.
    assert_eq!(next(0.3, 0.6, 2, 0, 1), 4);
    // One ready at 40 % of 40 %: nothing to do.
    assert_eq!(next(0.4, 0.4, 1, 0, 2), 3);
    // One of two ready reports 200 % at 50 %, a third is starting: 66.7 % of all, four.
    assert_eq!(next(0.5, 2.0, 2, 1, 1), 4);
    // 114 % of the target, but 104 % of those that come: tolerated.
    assert_eq!(next(0.5, 0.57, 10, 0, 1), 11);
    // Above the target, and still fewer than there will be: no reason to remove any.
    assert_eq!(next(0.5, 0.6, 2, 0, 8), 10);
    // Downwards they are set aside.
    assert_eq!(next(0.5, 0.1, 4, 0, 2), 1);
}

/// External metrics are the service's: usage over target times the ready ones, and from none at all
/// (HPAScaleToZero) the ratio alone.
#[test]
fn a_number_from_elsewhere_wakes_a_service_without_backends() {
    let depth = Metric::External("depth".into());
    let mut params = quick();
    params.min = 0;
    params.targets = vec![("depth".into(), target(depth.clone(), 100.0))];
    let mut service = Service::new(params, 0);
    let mut at = |second, value| {
        service.look(second, vec![signal(depth.clone(), Some(value))]);
        service.size
    };
    assert_eq!([at(1, 0.0), at(2, 250.0), at(3, 100.0), at(4, 50.0), at(5, 0.0)], [0, 3, 3, 2, 0]);
}

/// "The largest of the desired counts"; and where one cannot be had, no fewer.
#[test]
fn of_several_metrics_the_largest_counts_and_a_missing_one_forbids_fewer() {
    let mut params = cpu(0.5);
    params.targets.push(("rps".into(), target(Metric::Rps, 100.0)));
    let look = |cpu, rps| {
        let mut service = Service::new(params.clone(), 4);
        service.look(1, vec![signal(Metric::Cpu, cpu), signal(Metric::Rps, rps)]);
        service.size
    };
    assert_eq!(look(Some(0.75), Some(50.0)), 6);
    assert_eq!(look(Some(0.25), Some(200.0)), 8);
    assert_eq!(look(Some(0.25), Some(75.0)), 3, "both want fewer: the larger");
    assert_eq!(look(Some(0.25), None), 4);
    assert_eq!(look(None, Some(50.0)), 4);
    assert_eq!(look(None, Some(200.0)), 8, "up without the other one");
    assert_eq!(look(None, None), 4);
}

#[test]
fn that_a_metric_is_missing_is_said() {
    let mut service = Service::new(cpu(0.5), 4);
    let tick = service.look(1, vec![signal(Metric::Cpu, None)]);
    let action = tick.record.map(|record| record.action);
    let refused = Action::Refuse { at: 4, wanted: 4, reason: Reason::MetricMissing };
    assert_eq!(action, Some(refused));
}

/// A step within the limits goes on where the period before ended.
#[test]
fn a_ratio_and_its_limits_together() {
    let mut params = cpu(0.5);
    params.up.limits = vec![percent(50, 60)];
    params.down.stabilization = seconds(120);
    let mut service = Service::new(params, 10);
    let mut at = |second, used| {
        service.look(second, vec![signal(Metric::Cpu, Some(used))]);
        service.size
    };
    assert_eq!(
        [at(0, 1.0), at(30, 0.9), at(60, 0.9), at(119, 0.9), at(120, 0.9)],
        [15, 15, 23, 23, 35]
    );
}
