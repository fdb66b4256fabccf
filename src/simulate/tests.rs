//! Whole runs: that nothing is lost, that seeds repeat, and small cells whose figures are known.

use std::time::Duration;

use crate::config::types::{Behaviour, Scaling, ScalingMode, Select, SloPolicy};
use crate::scale::fixture;

use super::policy::Kind;
use super::requests::Faults;
use super::*;

fn trial(load: Load, lead: f64, seeds: u64, fidelity: Fidelity) -> Trial {
    Trial { setting: Setting::standard(lead), load, first_seed: 1, seeds, fidelity }
}

fn play(trial: &Trial, kinds: &[Kind]) -> Vec<Outcome> {
    let entrants: Vec<Entrant<'_>> = kinds
        .iter()
        .map(|kind| Entrant {
            name: kind.name().to_owned(),
            build: Box::new(|| kind.build(&trial.setting, &trial.load)),
        })
        .collect();
    trial.run(&entrants, 2)
}

fn flat(rate: f64, seconds: usize) -> Load {
    Load { name: "flat".into(), rates: vec![rate; seconds], exact: false, begins: None }
}

#[test]
fn every_arrival_is_served_dropped_or_waiting() {
    for fidelity in [Fidelity::Fluid, Fidelity::Requests(Faults::default())] {
        for shape in [Shape::Step, Shape::Spike] {
            // Single requests take their time.
            let peak = if fidelity == Fidelity::Fluid { 1200.0 } else { 150.0 };
            let trial = trial(shape.load().with_peak(peak), 30.0, 1, fidelity);
            for outcome in play(&trial, &Kind::ALL) {
                for score in &outcome.scores {
                    let left = score.served + score.dropped + score.waiting;
                    let allowed = 1e-6 * score.arrivals;
                    assert!((score.arrivals - left).abs() <= allowed, "{}", outcome.summary.policy);
                    assert!(score.late <= score.arrivals && score.dropped <= score.late + allowed);
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run_on_any_number_of_threads() {
    for fidelity in
        [Fidelity::Fluid, Fidelity::Requests(Faults { start_failures: 0.2, lost_metrics: 0.1 })]
    {
        let trial = trial(Shape::Step.load().with_peak(200.0), 5.0, 2, fidelity);
        let entrants = || {
            [Kind::Kpa, Kind::Slo].map(|kind| Entrant {
                name: kind.name().to_owned(),
                build: Box::new(move || kind.build(&Setting::standard(5.0), &Shape::Step.load())),
            })
        };
        let one = trial.run(&entrants(), 1);
        assert_eq!(one, trial.run(&entrants(), 4));
        assert_ne!(one[0].scores[0], one[0].scores[1], "seeds differ");
    }
}

/// Who orders in the first second of a step cannot have fewer violations than the lead time makes:
/// so many seconds of arrivals, and half a second until the backlog is gone (docs/scaling.md).
#[test]
fn a_step_costs_its_lead_time() {
    for lead in [5.0, 30.0] {
        let trial = trial(Shape::Step.load(), lead, 4, Fidelity::Fluid);
        for outcome in play(&trial, &[Kind::Slo, Kind::Kpa]) {
            let late = outcome.scores[0].late / 1000.0;
            assert!((late - lead - 0.45).abs() < 0.4, "{} {late}", outcome.summary.policy);
        }
    }
}

/// Cells of the published table, within what its seeds spread.
#[test]
fn small_cells_of_the_published_table() {
    let cells = [
        (Kind::Slo, Shape::Ramp, 1.04, 0.15, 1.337, 0.02),
        (Kind::Kpa, Shape::Ramp, 1.19, 0.4, 1.461, 0.08),
        (Kind::Kpa, Shape::Step, 4.94, 0.1, 1.421, 0.005),
        (Kind::KedaHttp, Shape::Step, 12.56, 0.2, 1.739, 0.03),
        (Kind::Slo, Shape::Spike, 19.5, 0.3, 1.465, 0.04),
    ];
    for (kind, shape, violations, allowed, cost, within) in cells {
        let outcomes = play(&trial(shape.load(), 30.0, 5, Fidelity::Fluid), &[kind]);
        let found = &outcomes[0].summary;
        let what = (kind, shape, found.violations_percent, found.cost);
        assert!((found.violations_percent.mean - violations).abs() < allowed, "{what:?}");
        assert!((found.cost.mean - cost).abs() < within, "{what:?}");
    }
}

#[test]
fn the_oracle_costs_what_it_costs_and_a_static_size_never_changes() {
    let outcomes =
        play(&trial(Shape::Step.load(), 30.0, 1, Fidelity::Fluid), &[Kind::Oracle, Kind::Static]);
    assert_eq!(outcomes[0].summary.cost.mean, 1.0);
    assert_eq!(
        (outcomes[1].summary.flips.mean, outcomes[1].summary.backend_hours.mean),
        (0.0, 7.0)
    );
}

/// Steady load well below capacity: both fidelities see hardly anyone wait, at the same cost.
#[test]
fn both_fidelities_agree_where_both_are_right() {
    let cost = [Fidelity::Fluid, Fidelity::Requests(Faults::default())].map(|fidelity| {
        let outcomes = play(&trial(flat(300.0, 600), 5.0, 1, fidelity), &[Kind::Kpa]);
        let summary = &outcomes[0].summary;
        assert!(summary.violations_percent.mean < 0.05, "{fidelity:?} {summary:?}");
        summary.cost.mean
    });
    assert!((cost[0] - cost[1]).abs() < 0.02, "{cost:?}");
}

#[test]
fn failed_starts_and_lost_metrics_make_it_worse_but_do_not_stop_it() {
    let with = |faults| {
        let trial = trial(Shape::Step.load().with_peak(300.0), 5.0, 1, Fidelity::Requests(faults));
        play(&trial, &[Kind::Slo]).remove(0).scores.remove(0)
    };
    let none = with(Faults::default());
    let some = with(Faults { start_failures: 0.3, lost_metrics: 0.5 });
    assert!(some.late > none.late, "{} {}", some.late, none.late);
    assert!(some.violations() < 50.0, "{}", some.violations());
}

#[test]
fn a_sweep_marks_what_nothing_beats() {
    let trial = trial(flat(400.0, 300), 5.0, 1, Fidelity::Fluid);
    let choices = sweep::sweep(&trial, 2);
    assert!(choices[0].best, "the cheapest is never beaten at its cost");
    for pair in choices.windows(2) {
        assert!(pair[0].summary.cost.mean <= pair[1].summary.cost.mean);
    }
    let late = |choice: &sweep::Choice| choice.summary.violations_percent.mean;
    let best: Vec<f64> = choices.iter().filter(|choice| choice.best).map(late).collect();
    assert!(best.windows(2).all(|pair| pair[1] < pair[0]), "{best:?}");
}

#[test]
fn the_page_shows_every_policy_and_loads_nothing() {
    let load = Load { name: "<load>".into(), ..Shape::Spike.load() };
    let trial = trial(load, 30.0, 1, Fidelity::Fluid);
    let page = picture::page(&trial, &play(&trial, &[Kind::Hpa, Kind::Kpa]), "today");
    for text in ["hpa: ", "kpa: ", "&lt;load&gt;", "class=\"capacity\"", "class=\"error\""] {
        assert!(page.contains(text), "{text}");
    }
    for foreign in ["<script", "src=", "href=", "url(", "<load>", "NaN"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

/// A service of its own: the real scaler with the whole pipeline, second by second.
pub(super) fn own(scaling: Scaling, load: Load) -> Outcome {
    own_often(scaling, trial(load, 5.0, 1, Fidelity::Fluid))
}

fn own_often(scaling: Scaling, trial: Trial) -> Outcome {
    let entrant = Entrant {
        name: "app".into(),
        build: Box::new(|| Box::new(own::Own::new("app", &scaling, &trial.setting))),
    };
    trial.run(&[entrant], 1).remove(0)
}

fn behaviour(stabilization: u64) -> Behaviour {
    Behaviour {
        stabilization: Duration::from_secs(stabilization),
        select: Select::Max,
        limits: Vec::new(),
        cooldown: Duration::ZERO,
    }
}

fn scaling(min: u32, max: u32) -> Scaling {
    Scaling {
        mode: ScalingMode::DryRun,
        min,
        max,
        concurrency: fixture::concurrency(4.0, 0.7),
        up: behaviour(0),
        down: behaviour(300),
        ..fixture::params()
    }
}

#[test]
fn a_configured_service_follows_its_load_within_its_bounds() {
    let outcome = own(scaling(2, 60), Shape::Step.load());
    // ceil(100 ÷ 2.8) at the end, and held there.
    let last = outcome.curve.columns.last().expect("columns");
    assert!((36..=37).contains(&last.size), "{last:?}");
    assert!(outcome.summary.violations_percent.mean < 2.0, "{:?}", outcome.summary);
    let bounded = own(scaling(2, 10), Shape::Step.load());
    assert!(bounded.curve.columns.iter().all(|column| (2..=10).contains(&column.size)));
}

#[test]
fn its_stabilization_window_holds_it_after_a_spike() {
    let short = own(Scaling { down: behaviour(0), ..scaling(2, 60) }, Shape::Spike.load());
    let long = own(scaling(2, 60), Shape::Spike.load());
    assert!(
        long.summary.backend_hours.mean > short.summary.backend_hours.mean + 1.0,
        "{:?} {:?}",
        long.summary,
        short.summary
    );
}

fn slo(slots: Option<f64>) -> SloPolicy {
    SloPolicy {
        latency: Some(Duration::from_millis(450)),
        quantile: 0.99,
        headroom: 1.25,
        max_utilization: 0.95,
        wait_probability: 0.002,
        slots,
        service_time: slots.map(|_| Duration::from_millis(100)),
        lead_time: Duration::from_secs(5),
        seasonal: true,
    }
}

pub(super) fn slo_alone(slots: Option<f64>) -> Scaling {
    let slo = Some(slo(slots));
    Scaling { slo, concurrency: None, down: behaviour(0), ..scaling(2, 60) }
}

/// The policy within the pipeline is the policy: the same violations, and at most a little dearer.
#[test]
fn slo_alone_does_in_the_pipeline_what_it_does_without() {
    let scaling = slo_alone(Some(4.0));
    let piped = own(scaling, Shape::Step.load()).summary;
    let alone = &play(&trial(Shape::Step.load(), 5.0, 1, Fidelity::Fluid), &[Kind::Slo])[0].summary;
    let (piped, alone) = (
        (piped.violations_percent.mean, piped.cost.mean),
        (alone.violations_percent.mean, alone.cost.mean),
    );
    assert!((piped.0 - alone.0).abs() < 0.2, "{piped:?} {alone:?}");
    assert!((piped.1 - alone.1).abs() < 0.1, "{piped:?} {alone:?}");
}

/// Who has to find out slots and service time, from the first request on, loses seconds by it.
#[test]
fn slo_that_knows_nothing_of_its_backends_does_nearly_as_well() {
    for shape in Shape::ALL {
        let [known, learned] =
            [Some(4.0), None].map(|slots| own(slo_alone(slots), shape.load()).summary);
        let late = known.violations_percent.mean;
        let most = late * 1.4 + 0.05;
        assert!(learned.violations_percent.mean < most, "{shape:?}: {learned:?} {late}");
        assert!(learned.cost.mean < 1.15 * known.cost.mean, "{shape:?}: {learned:?} {known:?}");
    }
}

/// In a step beyond everything clients give up from the first second on, and what they gave up is no measure. That backends
/// never got more done has to do, or each doubling waits for a lead time.
#[test]
fn slo_learns_slots_while_clients_give_up() {
    let [known, learned] = [Some(4.0), None].map(|slots| {
        let scaling = Scaling { interval: Duration::from_secs(5), ..slo_alone(slots) };
        own_often(scaling, trial(Shape::Step.load(), 90.0, 8, Fidelity::Fluid)).summary
    });
    let late = known.violations_percent.mean;
    assert!(learned.violations_percent.mean < 1.1 * late, "{learned:?} {late}");
    assert!(learned.cost.mean < 1.1 * known.cost.mean, "{learned:?} {known:?}");
}
