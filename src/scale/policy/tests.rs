//! The arithmetic of the HPA and of Knative's KPA, with their documented cases.

use super::*;
use crate::config::types::{Algorithm, QueuePolicy, TargetPolicy, ThresholdPolicy};
use crate::scale::fixture::{concurrency, sample, seconds, signal, target};
use crate::scale::formula::tests::evaluate;

/// Proposals of a policy, second after second.
struct Bench {
    policy: Box<dyn Policy>,
    history: History,
    second: u64,
    starting: u32,
    queued: f64,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Scaling)) -> Self {
        let mut params = crate::scale::fixture::params();
        change(&mut params);
        let policy = build(&params).remove(0);
        Self { policy, history: History::default(), second: 0, starting: 0, queued: 0.0 }
    }

    fn concurrency(target: f64, utilization: f64) -> Self {
        Self::new(|params| params.concurrency = concurrency(target, utilization))
    }

    fn target(metric: Metric, value: f64) -> Self {
        Self::new(|params| params.targets = vec![("t".into(), target(metric, value))])
    }

    fn tick(&mut self, ready: u32, in_flight: f64, signals: &[Signal]) -> Proposed {
        self.second += 1;
        let mut sample = sample(self.second, ready, in_flight);
        sample.signals = signals.to_vec();
        sample.counts.starting = self.starting;
        sample.queued = self.queued;
        self.history.push(&sample);
        let input = Input {
            now: sample.at,
            sample: &sample,
            history: &self.history,
            current: ready + self.starting,
            max_age: seconds(15),
            saturated: self.queued > 0.0,
            season: None,
        };
        let proposed = self.policy.propose(&input);
        let (value, n) = evaluate(&proposed.formula);
        assert_eq!((value, n), (f64::from(proposed.wanted), proposed.wanted), "{proposed:?}");
        proposed
    }

    /// One tick with a single metric; what is proposed and why it was held.
    fn one(&mut self, ready: u32, metric: Metric, value: f64) -> (u32, Option<Reason>) {
        let proposed = self.tick(ready, 0.0, &[signal(metric, Some(value))]);
        (proposed.n, proposed.held)
    }
}

#[test]
fn hpa_twice_the_value_doubles_and_half_of_it_halves() {
    assert_eq!(Bench::target(Metric::Rps, 100.0).one(4, Metric::Rps, 200.0), (8, None));
    assert_eq!(Bench::target(Metric::Rps, 100.0).one(4, Metric::Rps, 50.0), (2, None));
    assert_eq!(Bench::target(Metric::Cpu, 0.75).one(50, Metric::Cpu, 0.9), (60, None));
}

#[test]
fn hpa_within_a_tenth_of_the_target_nothing_changes() {
    let held = Some(Reason::Tolerance);
    assert_eq!(Bench::target(Metric::Cpu, 0.5).one(10, Metric::Cpu, 0.55), (10, held));
    assert_eq!(Bench::target(Metric::Cpu, 0.5).one(10, Metric::Cpu, 0.45), (10, held));
    assert_eq!(Bench::target(Metric::Cpu, 0.5).one(10, Metric::Cpu, 0.56), (12, None));
    assert_eq!(Bench::target(Metric::Cpu, 0.5).one(10, Metric::Cpu, 0.44), (9, None));
}

#[test]
fn hpa_silent_backends_count_with_nothing_upwards_and_with_the_target_downwards() {
    let silent = |value, missing| [Signal { missing, ..signal(Metric::Cpu, Some(value)) }];
    // (3 × 1 + 1 × 0) ÷ 0.5
    let up = Bench::target(Metric::Cpu, 0.5).tick(4, 0.0, &silent(1.0, 1));
    assert_eq!((up.n, up.held), (6, None));
    // (3 × 0.1 + 1 × 0.5) ÷ 0.5 = 1.6
    let down = Bench::target(Metric::Cpu, 0.5).tick(4, 0.0, &silent(0.1, 1));
    assert_eq!((down.n, down.held), (2, None));
    // Up by what is known, but down with the silent ones at nothing: nothing changes.
    let turned = Bench::target(Metric::Cpu, 0.5).tick(4, 0.0, &silent(0.6, 2));
    assert_eq!((turned.n, turned.held), (4, Some(Reason::DirectionTurned)));
}

#[test]
fn hpa_starting_backends_are_capacity_to_come() {
    let mut bench = Bench::target(Metric::Cpu, 0.5);
    bench.starting = 3;
    // 2 × 1 ÷ 0.5 = 4 of the 5 that are there or coming: no reason to remove any while over target.
    assert_eq!(bench.one(2, Metric::Cpu, 1.0), (5, Some(Reason::DirectionTurned)));
}

#[test]
fn no_value_an_old_value_or_nobody_reporting_is_no_data() {
    let mut bench = Bench::target(Metric::Cpu, 0.5);
    let old = Signal { age: seconds(16), ..signal(Metric::Cpu, Some(0.1)) };
    let nobody = Signal { missing: 4, ..signal(Metric::Cpu, Some(0.1)) };
    for signals in [&[][..], &[signal(Metric::Cpu, None)], &[old], &[nobody]] {
        let proposed = bench.tick(4, 0.0, signals);
        assert_eq!((proposed.valid, proposed.n), (false, 4), "{signals:?}");
    }
}

#[test]
fn no_requests_are_calm_and_not_missing_data() {
    let nothing = [signal(Metric::ResponseTime, None)];
    let idle = Bench::target(Metric::ResponseTime, 0.2).tick(4, 0.0, &nothing);
    assert_eq!((idle.valid, idle.n), (true, 0));
    let busy = Bench::target(Metric::ResponseTime, 0.2).tick(4, 3.0, &nothing);
    assert_eq!((busy.valid, busy.n), (false, 4));
}

#[test]
fn a_load_shared_by_more_backends_is_not_counted_twice() {
    let mut bench = Bench::target(Metric::InFlight, 5.0);
    for _ in 0..14 {
        bench.one(4, Metric::InFlight, 10.0);
    }
    // The same 40 in flight, now on 8.
    assert_eq!(bench.one(8, Metric::InFlight, 5.0), (8, Some(Reason::Tolerance)));
}

#[test]
fn errors_count_only_with_signs_of_saturation() {
    let mut bench = Bench::target(Metric::ErrorRate, 0.05);
    let held = Some(Reason::ErrorsWithoutSaturation);
    assert_eq!(bench.one(4, Metric::ErrorRate, 0.5), (4, held));
    bench.queued = 3.0;
    assert_eq!(bench.one(4, Metric::ErrorRate, 0.1), (8, None));
}

#[test]
fn errors_of_clients_are_another_class() {
    let mut bench = Bench::target(Metric::ClientErrorRate, 0.05);
    assert_eq!(bench.one(4, Metric::ErrorRate, 0.5), (4, Some(Reason::MetricMissing)));
    let held = Some(Reason::ErrorsWithoutSaturation);
    assert_eq!(bench.one(4, Metric::ClientErrorRate, 0.1), (4, held));
    bench.queued = 3.0;
    assert_eq!(bench.one(4, Metric::ClientErrorRate, 0.1), (8, None));
}

#[test]
fn who_waits_for_a_place_is_jobs_to_be_done() {
    let queued = |each| [signal(Metric::Queued, Some(each))];
    let mut target = Bench::target(Metric::Queued, 2.0);
    assert_eq!(target.tick(4, 0.0, &queued(3.0)).n, 6, "twelve wait, two a backend are meant to");
    let policy = QueuePolicy { metric: Metric::Queued, per_backend: 4.0, max_age: Duration::ZERO };
    let mut queue = Bench::new(|params| params.queues = vec![("line".into(), policy)]);
    let proposed = queue.tick(4, 0.0, &queued(3.0));
    assert_eq!(proposed.formula, "ceil(12 jobs ÷ 4 per backend) = 3");
}

#[test]
fn each_policy_has_its_own_window() {
    let minute = seconds(60);
    let of = |window| TargetPolicy { window, ..target(Metric::ResponseTime, 0.2) };
    let mut bench = Bench::new(|params| {
        params.targets = vec![("calm".into(), of(minute)), ("quick".into(), of(WINDOW))];
    });
    assert_eq!(bench.policy.wanted()[0].window, minute);
    let slow = signal(Metric::ResponseTime, Some(0.4));
    let fine = Signal { window: minute, ..signal(Metric::ResponseTime, Some(0.2)) };
    let proposed = bench.tick(4, 3.0, &[slow, fine]);
    assert_eq!((proposed.n, proposed.held), (4, Some(Reason::Tolerance)));
}

fn threshold(metric: Metric, algorithm: Algorithm) -> Bench {
    let (quantile, window) = (0.95, WINDOW);
    let policy =
        ThresholdPolicy { metric, quantile, window, up_above: 1.0, down_below: 0.2, algorithm };
    Bench::new(|params| params.thresholds = vec![("t".into(), policy)])
}

#[test]
fn exponential_adds_half_or_all_and_takes_away_a_third() {
    let mut bench = threshold(Metric::ResponseTime, Algorithm::Exponential);
    let mut at = |ready, value| bench.one(ready, Metric::ResponseTime, value).0;
    assert_eq!([at(4, 1.2), at(5, 1.2), at(1, 1.2)], [6, 8, 2]);
    assert_eq!([at(4, 1.5), at(1, 9.0)], [8, 2], "far above");
    assert_eq!([at(9, 0.1), at(10, 0.1), at(2, 0.1), at(1, 0.1)], [6, 6, 1, 0]);
    assert_eq!(at(4, 0.5), 4);
    bench.starting = 2;
    assert_eq!(bench.one(4, Metric::ResponseTime, 1.2).0, 6, "they are waited for");
}

#[test]
fn predictive_goes_up_before_the_value_is_there_and_never_for_noise() {
    let queue = || Metric::External("depth".into());
    let mut bench = threshold(queue(), Algorithm::Predictive);
    // 0.01 a second: 30 s ahead it crosses 1 at about 0.7.
    let numbers: Vec<u32> =
        (0..90).map(|t| bench.one(4, queue(), 0.3 + f64::from(t) / 100.0).0).collect();
    let first = numbers.iter().position(|n| *n == 5).expect("it goes up");
    assert!((39..=42).contains(&first), "{first}");
    let mut noisy = threshold(queue(), Algorithm::Predictive);
    let mut rng = fastrand::Rng::with_seed(3);
    assert!((0..600).all(|_| noisy.one(4, queue(), 0.4 + 0.5 * rng.f64()).0 == 4));
}

fn queue(max_age: u64) -> Bench {
    let metric = Metric::External("jobs".into());
    let policy = QueuePolicy { metric, per_backend: 100.0, max_age: seconds(max_age) };
    Bench::new(|params| params.queues = vec![("jobs".into(), policy)])
}

#[test]
fn a_queue_needs_a_backend_for_each_so_many_jobs_with_none_there_too() {
    let jobs = |value| [signal(Metric::External("jobs".into()), value)];
    let n = |ready, value| queue(0).tick(ready, 0.0, &jobs(Some(value))).n;
    assert_eq!([n(3, 0.0), n(3, 1.0), n(3, 100.0), n(3, 101.0), n(0, 5000.0)], [0, 1, 1, 2, 50]);
    let proposed = queue(0).tick(3, 0.0, &jobs(Some(431.0)));
    assert_eq!(proposed.formula, "ceil(431 jobs ÷ 100 per backend) = 5");
    let blind = queue(0).tick(3, 0.0, &jobs(None));
    assert_eq!((blind.n, blind.valid, blind.held), (3, false, Some(Reason::MetricMissing)));
}

#[test]
fn a_job_that_waits_for_too_long_needs_more_backends_twice_as_many_at_most() {
    let n = |age| {
        let jobs =
            Signal { oldest: Some(age), ..signal(Metric::External("jobs".into()), Some(10.0)) };
        queue(60).tick(4, 0.0, &[jobs]).n
    };
    assert_eq!([n(30.0), n(60.0), n(90.0), n(3000.0)], [1, 1, 6, 8]);
}

#[test]
fn a_number_from_elsewhere_is_a_target_of_the_whole_service() {
    let depth = || Metric::External("depth".into());
    assert_eq!(Bench::target(depth(), 10.0).one(4, depth(), 20.0), (8, None));
    let missing = Bench::target(depth(), 10.0).tick(4, 0.0, &[signal(depth(), None)]);
    assert_eq!((missing.n, missing.valid), (4, false));
}

#[test]
fn threshold_goes_one_up_or_one_down_and_waits_for_the_one_that_starts() {
    let mut bench = threshold(Metric::ResponseTime, Algorithm::Linear);
    assert_eq!(bench.one(4, Metric::ResponseTime, 1.2).0, 5);
    assert_eq!(bench.one(4, Metric::ResponseTime, 0.5).0, 4);
    assert_eq!(bench.one(4, Metric::ResponseTime, 0.1).0, 3);
    bench.starting = 1;
    assert_eq!(bench.one(4, Metric::ResponseTime, 1.2).0, 5);
}

#[test]
fn kpa_divides_the_stable_mean_by_the_target() {
    let wish = |load| Bench::concurrency(10.0, 1.0).tick(5, load, &[]).n;
    assert_eq!([wish(50.0), wish(100.0), wish(1.0), wish(0.0)], [5, 10, 1, 0]);
    let proposed = Bench::concurrency(4.0, 0.7).tick(6, 17.3, &[]);
    assert_eq!(proposed.formula, "ceil(17.3 in flight ÷ (0.7 × 4)) = 7");
}

#[test]
fn kpa_panics_at_twice_the_ready_and_then_only_rises() {
    let mut bench = Bench::concurrency(10.0, 1.0);
    for _ in 0..60 {
        assert_eq!(bench.tick(10, 100.0, &[]).n, 10);
    }
    // 6 s at 1000 in flight: the panic wish is 100, ten times what is ready.
    let peak = (0..6).map(|_| bench.tick(10, 1000.0, &[]).n).last();
    assert_eq!(peak, Some(100));
    // The load is gone; panic was last justified within these seconds.
    let calm: Vec<u32> = (0..70).map(|_| bench.tick(100, 1.0, &[]).n).collect();
    assert!(calm[..60].iter().all(|n| *n == 100), "no less for a stable window: {calm:?}");
    assert_eq!(calm[65], 1, "then what the stable window says");
}

#[test]
fn kpa_takes_the_stable_wish_when_it_is_the_larger_one_in_panic() {
    let mut bench = Bench::concurrency(1.0, 1.0);
    bench.policy.resume(Panic { last: 1, peak: 5 });
    for _ in 0..50 {
        bench.tick(40, 60.0, &[]);
    }
    // 44 s at 60, 6 s at 30: 56.4 over the stable window, 30 in the panic window.
    let last = (0..6).map(|_| bench.tick(40, 30.0, &[])).last().expect("six ticks");
    assert!(last.n >= 57, "{last:?}");
}
