//! The arithmetic as properties, and pools that are ejected from, drained and brought back in any order.

use proptest::prelude::*;

use super::*;
use crate::upstream::backend::Source;
use crate::upstream::gate::State;

const SECOND: Micros = 1_000_000;
const AGAIN: Duration = Duration::from_secs(10);
const RULES: config::Outlier = config::Outlier {
    consecutive_failures: 5,
    success_rate_deviations: 1.9,
    failure_percent: 85,
    ejection_time: Duration::from_secs(10),
    max_ejection_time: Duration::from_secs(300),
    max_ejected: 0.5,
};
const WHY: Why = Why::Consecutive { failures: 5, last: Blow::Refused };

struct World {
    backends: Vec<Arc<Backend>>,
    outliers: Outliers,
    notices: mpsc::Receiver<Notice>,
    rules: config::Outlier,
    rng: fastrand::Rng,
    now: Micros,
}

impl World {
    fn new(backends: usize) -> Self {
        let (sender, notices) = mpsc::channel(NOTICES);
        let outliers = Outliers::new(sender);
        let backends = (0..backends as u64)
            .map(|uid| {
                let backend = Backend::new(
                    uid,
                    "app".into(),
                    format!("app-{uid}").into(),
                    ([127, 0, 0, 1], 1).into(),
                    http::HeaderValue::from_static("app"),
                    Source::Fixed,
                    State::Ready,
                    1,
                );
                Arc::new(backend.under(outliers.cap()))
            })
            .collect();
        let rng = fastrand::Rng::with_seed(7);
        Self { backends, outliers, notices, rules: RULES, rng, now: 100 * SECOND }
    }

    fn eject(&mut self, i: usize, why: Why) -> bool {
        let members = self.backends.iter().map(|backend| &**backend);
        let backend = &self.backends[i];
        self.outliers.eject(backend, why, &self.rules, members, &mut self.rng, self.now)
    }

    fn uneject(&mut self, i: usize) -> bool {
        let slow_start = Duration::from_secs(10);
        self.outliers.uneject(&self.backends[i], Back::Probe, |_| true, slow_start, self.now)
    }

    fn probe_failed(&mut self, i: usize, why: Why) {
        let rng = &mut self.rng;
        self.outliers.probe_failed(&self.backends[i], why, &self.rules, rng, self.now);
    }

    fn probe(&mut self, patience: Duration) -> Option<usize> {
        if !self.outliers.is_due(self.now) {
            return None;
        }
        let candidates = self.backends.iter().enumerate();
        self.outliers.probe(candidates, patience, AGAIN, self.now)
    }

    /// Seconds until it is tried again.
    fn left(&self, i: usize) -> f64 {
        let terms = self.backends[i].gate.ejection().expect("it is ejected");
        terms.moment as f64 / 1e3 - self.now as f64 / 1e6
    }

    fn ejected(&self) -> Vec<usize> {
        (0..self.backends.len()).filter(|i| self.backends[*i].gate.is_ejected()).collect()
    }

    fn told(&mut self) -> Vec<(u64, Told)> {
        std::iter::from_fn(|| self.notices.try_recv().ok())
            .map(|notice| (notice.backend.uid, notice.told))
            .collect()
    }
}

#[test]
fn every_fifth_failure_in_a_row_asks_for_ejection_and_any_answer_begins_anew() {
    let outlier = Outlier::default();
    let asked: Vec<_> = (0..12).filter_map(|_| outlier.failed(5)).collect();
    assert_eq!(asked, [5, 10]);
    outlier.succeeded();
    let asked: Vec<_> = (0..5).map(|_| outlier.failed(5)).collect();
    assert_eq!(asked, [None, None, None, None, Some(5)]);
    assert!((0..100).all(|_| outlier.failed(0).is_none()), "0 is off");
}

#[test]
fn it_is_out_longer_each_time_and_what_it_stays_in_is_taken_off() {
    let mut world = World::new(4);
    for times in [1, 2, 3] {
        assert!(world.eject(0, WHY));
        let left = world.left(0) / f64::from(times);
        assert!((8.0..=12.0).contains(&left), "{left} × {times}");
        assert!(world.uneject(0));
    }
    // 25 s in the pool forgive two of three.
    world.now += 25 * SECOND;
    assert!(world.eject(0, WHY));
    assert_eq!(world.backends[0].gate.terms().times, 2);
    // The time that it is out forgives nothing.
    world.now += 1000 * SECOND;
    world.probe_failed(0, Why::Probe { last: Blow::Status(502) });
    assert_eq!(world.backends[0].gate.terms().times, 3);
    assert!((24.0..=36.0).contains(&world.left(0)), "{}", world.left(0));
    for _ in 0..300 {
        world.probe_failed(0, Why::Probe { last: Blow::Timeout });
    }
    assert!((240.0..=360.0).contains(&world.left(0)), "{}", world.left(0));
    let reason = reason(world.backends[0].gate.terms());
    assert_eq!(reason, Reason::Consecutive, "why it went out in the first place");
}

#[test]
fn its_own_word_is_heeded_to_the_second_up_to_five_minutes_and_counts_for_nothing() {
    let mut world = World::new(4);
    let wait = |seconds| Why::RetryAfter { wait: Duration::from_secs(seconds) };
    assert!(world.eject(0, wait(17)));
    assert_eq!((world.left(0), world.backends[0].gate.terms().times), (17.0, 0));
    world.now += 17 * SECOND;
    world.probe_failed(0, wait(3600));
    assert_eq!((world.left(0), world.backends[0].gate.terms().times), (300.0, 0));
    // If all ask for it, half of them are kept.
    assert!(world.eject(1, wait(17)));
    assert!(!world.eject(2, wait(17)) && !world.eject(3, wait(17)));
}

#[test]
fn one_request_tries_it_and_another_when_nothing_comes_of_that() {
    let mut world = World::new(4);
    assert!(world.eject(0, WHY));
    let due = world.left(0);
    assert_eq!(world.probe(Duration::ZERO), None);
    world.now += (due * 1e6) as Micros;
    assert_eq!(world.probe(Duration::ZERO), Some(0));
    assert_eq!(world.probe(Duration::ZERO), None, "one request at a time");
    world.now += AGAIN.as_micros() as Micros;
    assert_eq!(world.probe(Duration::ZERO), Some(0));
    assert!(world.uneject(0) && !world.uneject(0));
    world.now += 1000 * SECOND;
    assert_eq!(world.probe(Duration::ZERO), None);
    let told: Vec<_> = world.told().into_iter().map(|(_, told)| told).collect();
    assert!(matches!(told[..], [Told::Ejected { why: WHY, .. }, Told::Back(Back::Probe)]));
}

#[test]
fn a_request_that_must_not_fail_leaves_it_to_others_for_a_while() {
    let mut world = World::new(4);
    assert!(world.eject(0, WHY));
    world.now += (world.left(0) * 1e6) as Micros;
    assert_eq!(world.probe(AGAIN), None);
    assert_eq!(world.probe(Duration::ZERO), None, "it was just looked for");
    world.now += LOOK_EVERY;
    assert_eq!(world.probe(Duration::ZERO), Some(0), "another may try");
    world.now += 2 * AGAIN.as_micros() as Micros;
    assert_eq!(world.probe(AGAIN), Some(0), "nobody else came");
}

#[test]
fn all_that_are_due_are_tried_one_by_one() {
    let mut world = World::new(6);
    assert!((0..3).all(|i| world.eject(i, WHY)) && !world.eject(3, WHY));
    world.now += 12 * SECOND;
    let mut tried: Vec<_> = (0..3)
        .map(|_| {
            world.now += LOOK_EVERY;
            world.probe(Duration::ZERO)
        })
        .collect();
    tried.sort_unstable();
    assert_eq!(tried, [Some(0), Some(1), Some(2)]);
    world.now += LOOK_EVERY;
    assert_eq!(world.probe(Duration::ZERO), None);
}

#[test]
fn whom_nobody_may_try_comes_back_by_time_and_goes_with_the_next_failure() {
    let mut world = World::new(4);
    let release = |world: &World, patience| {
        let backends = world.backends.iter();
        world.outliers.release(backends, &RULES, patience, AGAIN, world.now);
        world.backends[0].gate.is_available()
    };
    assert!(world.eject(0, WHY));
    assert!(!release(&world, Duration::ZERO) && !world.outliers.is_due(world.now + SECOND));
    world.now += 12 * SECOND;
    assert!(
        world.outliers.is_due(world.now) && !release(&world, AGAIN),
        "somebody else may try it"
    );
    world.now += LOOK_EVERY;
    assert!(world.outliers.is_due(world.now) && release(&world, Duration::ZERO));
    assert!(!world.outliers.is_due(world.now + 1000 * SECOND));
    assert_eq!(world.backends[0].outlier.failed(5), Some(5));
}

#[test]
fn who_goes_gives_its_place_back() {
    let mut world = World::new(4);
    assert!(world.eject(0, WHY) && world.eject(1, WHY) && !world.eject(2, WHY));
    world.backends[0].set_state(State::Draining);
    assert!(!world.backends[0].gate.is_ejected());
    // Three are left that could serve, and half of three is one.
    assert_eq!(world.outliers.ejected(), 1);
    assert!(!world.eject(2, WHY) && !world.eject(0, WHY), "one that drains is not ejected");
    world.backends[0].set_state(State::Ready);
    assert!(world.eject(2, WHY));
    // A notice that was not read keeps its backend alive.
    assert_eq!(world.told().len(), 3);
    world.backends.remove(1);
    assert_eq!(world.outliers.ejected(), 1);
    world.backends.clear();
    assert_eq!(world.outliers.ejected(), 0);
}

#[test]
fn notices_are_bounded_and_what_is_lost_is_counted() {
    let mut world = World::new(2);
    for _ in 0..NOTICES {
        assert!(world.eject(0, WHY) && world.uneject(0));
    }
    assert_eq!(world.told().len(), NOTICES);
    assert_eq!((world.outliers.take_lost(), world.outliers.take_lost()), (NOTICES as u64, 0));
    let counts: Vec<_> = world.outliers.ejections().filter(|(_, n)| *n > 0).collect();
    assert_eq!(counts, [(Reason::Consecutive, NOTICES as u64)], "the metric is exact");
}

#[test]
fn what_led_to_it_reads_as_a_sentence() {
    let text = |why: Why| why.to_string();
    assert_eq!(text(WHY), "5 consecutive failures, last: connection refused");
    let limit = rule::Threshold { mean: 98.1, deviation: 3.2, factor: 1.9 };
    let rate = Why::SuccessRate { rate: 71.2, limit };
    assert_eq!(text(rate), "success rate 71.2 % < 98.1 % − 1.9 × 3.2 %");
    let limit = rule::Threshold { mean: 99.0, deviation: 1.0, factor: 1.9 };
    let rate = Why::SuccessRate { rate: 93.0, limit };
    assert_eq!(text(rate), "success rate 93.0 % < 99.0 % − 5 %");
    let percent = Why::FailurePercent { failed: 45, requests: 50 };
    assert_eq!(text(percent), "45 of 50 requests failed (90.0 %)");
    assert_eq!(text(Why::Probe { last: Blow::Status(503) }), "tried again: 503");
    let wait = Why::RetryAfter { wait: Duration::from_secs(30) };
    assert_eq!(text(wait), "it answered 503 and asked for 30 s");
}

proptest! {
    /// Whatever happens in whatever order: as many places as ejected ones; nobody is ejected beyond the cap, and
    /// never the last that could serve; and who is not ejected although it could be finds no place.
    #[test]
    fn the_cap_holds(
        n in 1_usize..12,
        share in 0.0..=1.0,
        steps in prop::collection::vec((0_u8..7, 0_usize..12), 0..200),
    ) {
        let mut world = World::new(n);
        world.rules.max_ejected = share;
        for (step, i) in steps {
            let i = i % n;
            let gate = |i: usize| &world.backends[i].gate;
            match step {
                0..=2 => {
                    let ready = (0..n).filter(|i| gate(*i).is_ready()).count();
                    let before = world.ejected().len();
                    let others = (0..n).filter(|j| *j != i && gate(*j).is_available()).count();
                    let cap = ((share * ready as f64 + 1e-9).floor() as usize).max(1);
                    let cap = if share > 0.0 { cap } else { 0 };
                    let may = gate(i).is_available() && before < cap && others > 0;
                    prop_assert_eq!(world.eject(i, WHY), may, "{} of {} ready, {} out", i, ready, before);
                }
                3 => _ = world.uneject(i),
                4 => world.backends[i].set_state(State::Draining),
                5 => world.backends[i].set_state(State::Ready),
                _ => gate(i).set_healthy(!gate(i).is_healthy()),
            }
            world.now += SECOND;
            prop_assert_eq!(world.outliers.ejected() as usize, world.ejected().len());
        }
    }
}

/// Many threads at once, nothing is lost: in the end there are as many places as ejected ones, and one is left.
#[test]
fn ejectors_may_race() {
    let World { backends, outliers, mut notices, .. } = World::new(4);
    let rules = config::Outlier { max_ejected: 1.0, ..RULES };
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (backends, outliers, rules) = (&backends, &outliers, &rules);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                for now in 0..20_000 {
                    let i = rng.usize(..4);
                    if rng.bool() {
                        let members = backends.iter().map(|b| &**b);
                        outliers.eject(&backends[i], WHY, rules, members, &mut rng, now);
                    } else {
                        outliers.uneject(&backends[i], Back::Probe, |_| true, AGAIN, now);
                    }
                    assert!(outliers.ejected() <= 3);
                }
            });
        }
    });
    while notices.try_recv().is_ok() {}
    let ejected = backends.iter().filter(|b| b.gate.is_ejected()).count();
    assert_eq!(outliers.ejected() as usize, ejected);
    assert!(ejected < 4);
}
