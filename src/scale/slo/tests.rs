//! Properties of the arithmetic beside the golden cases.

use proptest::prelude::*;

use super::*;

fn signals() -> impl Strategy<Value = Signals> {
    (0.0..3000.0, 0.0..5000.0, 0_u32..60, 0_u32..30, 0.0..300.0, 1.0..32.0, 0.001..2.0, 0.0..5.0)
        .prop_map(|(arrivals, queued, ready, starting, lead, slots, service, wait)| Signals {
            arrivals,
            queued,
            ready,
            spec: ready + starting,
            lead,
            slots,
            service,
            wait,
            season: 0.0,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_same_input_gives_the_same_number(load in prop::collection::vec(signals(), 1..200)) {
        let run = || {
            let mut slo = Slo::new(Params::default());
            load.iter().map(|signals| slo.tick(signals)).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn never_fewer_than_the_load_of_now_needs(load in prop::collection::vec(signals(), 1..200)) {
        let mut slo = Slo::new(Params::default());
        for signals in &load {
            let decision = slo.tick(signals);
            prop_assert!(decision.n >= decision.need.min(signals.spec));
            prop_assert!(decision.need >= decision.base);
            prop_assert!(decision.forecast <= 2.0 * decision.level + 1e-9);
            // Up only as far as is needed, and at once.
            prop_assert!(decision.n <= signals.spec || decision.n == decision.need);
        }
    }
}

/// A slow service is judged by every request that waits, a fast one by what exceeds half a budget.
#[test]
fn a_slow_service_hides_no_backlog() {
    let tick = |service: f64| {
        let mut slo = Slo::new(Params::default());
        let signals = Signals {
            arrivals: 1.0,
            queued: 10.0,
            ready: 10,
            spec: 10,
            lead: 30.0,
            slots: 4.0,
            service,
            wait: 2.5 * service,
            season: 0.0,
        };
        slo.tick(&signals).backlog
    };
    assert_eq!(tick(0.1), 0.0);
    assert_eq!(tick(1.0), 4.0);
}

/// It raises to what it needs, falls back when it is over, and is no part of a larger need.
#[test]
fn a_season_only_raises() {
    let mut slo = Slo::new(Params::default());
    let mut tick = |arrivals: f64, season: f64, spec: u32| {
        let (slots, service, wait, lead) = (4.0, 0.1, 0.25, 30.0);
        slo.tick(&Signals {
            arrivals,
            queued: 0.0,
            ready: spec,
            spec,
            lead,
            slots,
            service,
            wait,
            season,
        })
    };
    let calm = tick(100.0, 0.0, 4);
    let raised = tick(100.0, 400.0, 4);
    assert_eq!((calm.seasonal, raised.seasonal, raised.why), (false, true, Why::Season));
    assert_eq!((raised.base, raised.n), (calm.base, raised.need));
    assert!(raised.need > calm.need, "{raised:?} {calm:?}");
    let lower = tick(100.0, 10.0, 4);
    assert_eq!((lower.seasonal, lower.need), (false, calm.need));
    let after = (0..200).map(|_| tick(100.0, 0.0, 20)).last().expect("200 ticks");
    assert_eq!(after.n, calm.need);
}

#[test]
fn nonsense_is_survived() {
    let mut slo = Slo::new(Params::default());
    for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        let decision = slo.tick(&Signals {
            arrivals: bad,
            queued: bad,
            ready: 1,
            spec: 1,
            lead: bad,
            slots: bad,
            service: bad,
            wait: bad,
            season: bad,
        });
        assert!(decision.level.is_finite());
    }
}

/// A day of seconds, which a simulation has many of, must not take minutes.
#[test]
fn a_tick_costs_the_same_on_the_last_second_of_a_day() {
    let mut slo = Slo::new(Params::default());
    let mut spec = 2;
    for t in 0..86_400_u32 {
        let arrivals = 600.0 + 500.0 * (f64::from(t) / 13_750.0).sin() + f64::from(t % 7);
        let decision = slo.tick(&Signals {
            arrivals,
            queued: 0.0,
            ready: spec,
            spec,
            lead: 30.0,
            slots: 4.0,
            service: 0.1,
            wait: 0.25,
            season: 0.0,
        });
        spec = decision.n;
    }
    assert!((20..40).contains(&spec), "{spec}");
    assert!(slo.needs.len() <= 61 && slo.arrivals.valid() <= 600);
}
