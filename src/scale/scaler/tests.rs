//! Whole ticks: what is decided, recorded and explained over time, and what must hold for any input.

use std::time::Duration;

use super::*;
use crate::config::types::{ScalingMode, SloPolicy};
use crate::scale::Traffic;
use crate::scale::explain::{explain, one_line};
use crate::scale::fixture::{backends, concurrency, quick, run, sample, scaler, seconds};

/// Concurrency target 4 at 70 %, min 2, max 20, small windows.
fn app() -> Scaling {
    let mut params = quick();
    params.concurrency = concurrency(4.0, 0.7);
    (params.min, params.max) = (2, 20);
    params.down.stabilization = seconds(30);
    params
}

fn records(ticks: &[Tick]) -> Vec<&Record> {
    ticks.iter().filter_map(|tick| tick.record.as_ref()).collect()
}

fn sizes(ticks: &[Tick]) -> Vec<(u32, u32)> {
    let change = |record: &&Record| match record.action {
        Action::Scale { from, to, .. } => Some((from, to)),
        _ => None,
    };
    records(ticks).iter().filter_map(change).collect()
}

#[test]
fn from_nothing_to_min_at_once() {
    let tick = scaler(app()).tick(&sample(0, 0, 0.0));
    let record = tick.record.expect("a change of size");
    assert!(matches!(record.action, Action::Scale { to: 2, reason: Reason::AtMin, .. }));
    assert_eq!(tick.plan.map(|plan| (plan.size, plan.start)), Some((2, 2)));
}

#[test]
fn it_grows_with_the_load_and_shrinks_after_the_window() {
    let (mut scaler, mut ready) = (scaler(app()), 2);
    run(&mut scaler, 0..120, &mut ready, 2.0);
    let up = run(&mut scaler, 120..240, &mut ready, 17.3);
    assert_eq!(ready, 7);
    assert!(sizes(&up).iter().all(|(from, to)| to > from), "{:?}", sizes(&up));
    let down = run(&mut scaler, 240..480, &mut ready, 2.0);
    assert_eq!(ready, 2);
    let refused = records(&down)
        .iter()
        .filter(|r| matches!(r.action, Action::Refuse { reason: Reason::Stabilization, .. }))
        .count();
    assert_eq!(refused, 1, "a refusal is recorded once, not every tick");
}

#[test]
fn that_nobody_goes_below_min_is_no_refusal() {
    let (mut scaler, mut ready) = (scaler(app()), 2);
    let idle = run(&mut scaler, 0..120, &mut ready, 0.0);
    assert_eq!((ready, records(&idle)), (2, Vec::new()), "there was nothing to be done");
}

#[test]
fn a_record_says_what_each_stage_took_away() {
    let mut params = app();
    params.up.limits = vec![backends(2, 60)];
    let tick = scaler(params).tick(&sample(1, 2, 40.0));
    let record = tick.record.expect("a change of size");
    assert_eq!(record.steps.len(), 1);
    assert_eq!(record.without, [(Stage::Limits, 15)].into());
    assert_eq!(record.winner.as_deref(), Some("concurrency"));
    let text = explain(&record, &jiff::tz::TimeZone::UTC);
    assert_eq!(
        text,
        "22:13:21  2 → 4 backends\n  \
           because   concurrency wants 15: max(ceil(40 in flight ÷ (0.7 × 4)), \
         ceil(40 in flight lately ÷ (0.7 × 4))) = 15; panic mode: only up, for 60 s\n  \
           limits    15 → 4: as much as the limits allow in their period, until 22:14:21\n  \
           otherwise without limits it would be 15\n  \
           cost      4 backend-hours an hour, 2 before\n  \
           next      down no earlier than 22:13:51, if no more is wanted until then\n"
    );
    let line = one_line(&record, &jiff::tz::TimeZone::UTC);
    assert!(line.starts_with("22:13:21  app  +2 → 4  concurrency: max("), "{line}");
    assert!(line.ends_with("= 15    (explain: tidegate explain app)"), "{line}");
}

#[test]
fn a_record_survives_json() {
    let tick = scaler(app()).tick(&sample(1, 2, 17.3));
    let record = tick.record.expect("a change of size");
    let json = serde_json::to_string(&record).expect("json");
    assert_eq!(serde_json::from_str::<Record>(&json).expect("its own output"), record);
    let value: serde_json::Value = serde_json::from_str(&json).expect("json");
    for key in "seq time service current signals proposals winner steps action without cost outcome"
        .split(' ')
    {
        assert!(value.get(key).is_some(), "{key} is in {json}");
    }
}

#[test]
fn a_record_says_what_an_hour_costs_before_and_after() {
    let cost_of = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("  cost      "));
        line.unwrap_or_else(|| panic!("no cost in {text}")).to_owned()
    };
    let decide = |params: Scaling, sample: &Sample| {
        let record = scaler(params).tick(sample).record.expect("a record");
        (cost_of(&explain(&record, &jiff::tz::TimeZone::UTC)), record)
    };
    let mut params = app();
    params.cost.currency = "EUR".into();
    let (free, record) = decide(params.clone(), &sample(1, 2, 17.3));
    assert_eq!(free, "7 backend-hours an hour, 2 before");
    let cost = record.cost.expect("always");
    let hours = cost.backend_hours;
    assert_eq!((hours.before, hours.after, hours.wanted, cost.spend), (2.0, 7.0, None, None));
    let cases = [
        (0.1, "0.70 EUR an hour, 0.20 before"),
        (12.0, "84.00 EUR an hour, 24.00 before"),
        (0.004, "0.0280 EUR an hour, 0.0080 before"),
    ];
    for (price, told) in cases {
        params.cost.per_backend_hour = price;
        assert_eq!(decide(params.clone(), &sample(1, 2, 17.3)).0, told);
    }
    // What is not done, and what would be done, with what it would cost.
    params.cost.per_backend_hour = 0.1;
    params.mode = ScalingMode::DryRun;
    let (told, record) = decide(params.clone(), &sample(1, 2, 17.3));
    assert_eq!(told, "0.20 EUR an hour as before, 0.70 was wanted");
    let spend = record.cost.and_then(|cost| cost.spend).expect("a price");
    assert_eq!((spend.before, spend.after), (0.2, 0.2));
    assert!(spend.wanted.is_some_and(|wanted| (wanted - 0.7).abs() < 1e-9), "{spend:?}");
    params.mode = ScalingMode::On;
    params.max = 2;
    let (told, _) = decide(params.clone(), &sample(1, 2, 17.3));
    assert_eq!(told, "0.20 EUR an hour as before, 0.70 was wanted");
    let lost = Sample { lost: 1, ..sample(1, 2, 2.0) };
    assert_eq!(decide(params, &lost).0, "0.20 EUR an hour as before");
}

#[test]
fn a_cost_of_an_older_journal_is_not_known() {
    let record = scaler(app()).tick(&sample(1, 2, 17.3)).record.expect("a change of size");
    let mut json = serde_json::to_value(&record).expect("json");
    for older in [serde_json::json!(0.7), serde_json::Value::Null] {
        json["cost"] = older;
        let read: Record = serde_json::from_value(json.clone()).expect("it is read");
        assert_eq!(read.cost, None);
        assert!(!explain(&read, &jiff::tz::TimeZone::UTC).contains("  cost"));
    }
}

#[test]
fn max_surge_starts_the_rest_later() {
    let mut params = app();
    params.max_surge = 3;
    let mut scaler = scaler(params);
    let first = scaler.tick(&sample(1, 2, 17.3));
    assert_eq!(first.plan.map(|plan| (plan.size, plan.start)), Some((5, 3)));
    let mut next = sample(2, 3, 17.3);
    next.counts.starting = 2;
    next.desired = Some(5);
    let next = scaler.tick(&next);
    assert_eq!(next.plan.map(|plan| (plan.size, plan.start)), Some((6, 1)));
    assert_eq!(next.record, None, "it is the same decision");
}

#[test]
fn a_backlog_that_max_surge_holds_up_says_so() {
    let slo = SloPolicy {
        latency: Some(Duration::from_millis(450)),
        quantile: 0.99,
        headroom: 1.25,
        max_utilization: 0.95,
        wait_probability: 0.002,
        slots: Some(4.0),
        service_time: Some(Duration::from_millis(100)),
        lead_time: seconds(5),
        seasonal: true,
    };
    let mut scaler = scaler(Scaling { slo: Some(slo), max_surge: 2, ..quick() });
    let traffic = Traffic { arrivals: 50.0, busy: 8.0, ..Traffic::default() };
    let piled =
        |second| Sample { queued: 400.0, traffic: traffic.clone(), ..sample(second, 2, 8.0) };
    let record = (1..10).find_map(|second| {
        let record = scaler.tick(&piled(second)).record?;
        matches!(record.action, Action::Scale { reason: Reason::Backlog, .. }).then_some(record)
    });
    let record = record.expect("more are wanted for what waits");
    let surge = record.steps.last().expect("not all at once");
    assert_eq!((surge.stage, surge.reason), (Stage::Surge, Reason::BacklogSurge));
}

#[test]
fn a_lost_backend_is_replaced_and_recorded() {
    let (mut scaler, mut ready) = (scaler(app()), 4);
    run(&mut scaler, 0..5, &mut ready, 10.0);
    let tick = scaler.tick(&Sample { lost: 1, ..sample(5, 3, 10.0) });
    let record = tick.record.expect("a record");
    assert_eq!(record.action, Action::Replace { size: 4, lost: 1 });
    assert_eq!(tick.plan.map(|plan| (plan.size, plan.start)), Some((4, 1)));
    // Also when another one was in its place before anybody looked.
    let tick = scaler.tick(&Sample { lost: 2, ..sample(6, 4, 10.0) });
    let action = tick.record.map(|record| record.action);
    assert_eq!(action, Some(Action::Replace { size: 4, lost: 2 }));
    assert_eq!(scaler.tick(&sample(7, 4, 10.0)).record, None, "each is told once");
}

#[test]
fn a_backend_that_leaves_as_it_was_told_is_not_lost() {
    let (mut scaler, mut ready) = (scaler(app()), 4);
    run(&mut scaler, 0..5, &mut ready, 10.0);
    // An operator drains one: the size is made up for, and nothing has gone away.
    let tick = scaler.tick(&sample(5, 3, 10.0));
    assert_eq!(tick.record, None);
    assert_eq!(tick.plan.map(|plan| (plan.size, plan.start)), Some((4, 1)));
}

#[test]
fn a_size_set_by_someone_else_is_adopted_and_left_alone_for_a_while() {
    let (mut scaler, mut ready) = (scaler(app()), 2);
    run(&mut scaler, 0..60, &mut ready, 2.0);
    let tick = scaler.tick(&Sample { desired: Some(9), ..sample(60, 9, 2.0) });
    assert_eq!(tick.record.map(|r| r.action), Some(Action::Adopt { from: 2, to: 9 }));
    let mut later = (61..74)
        .map(|second| scaler.tick(&Sample { desired: Some(9), ..sample(second, 9, 30.0) }).plan);
    assert!(later.all(|plan| plan.is_some_and(|plan| plan.size == 9)), "a cooldown");
}

#[test]
fn stale_telemetry_holds_and_says_so_once() {
    let (mut scaler, mut ready) = (scaler(app()), 4);
    run(&mut scaler, 0..60, &mut ready, 11.0);
    let stale = |second| Sample { stale: true, ..sample(second, 4, 400.0) };
    let ticks: Vec<Tick> = (60..90).map(|second| scaler.tick(&stale(second))).collect();
    assert!(ticks.iter().all(|tick| tick.plan.as_ref().is_some_and(|plan| plan.size == 4)));
    let said = records(&ticks);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].action, Action::Refuse { at: 4, wanted: 4, reason: Reason::Stale });
}

#[test]
fn a_pin_holds_until_it_expires() {
    let (mut scaler, mut ready) = (scaler(app()), 2);
    run(&mut scaler, 0..40, &mut ready, 2.0);
    scaler.set_override(Some(Override::Pin { replicas: 9, until: Some(60_000_000) }));
    let ticks = run(&mut scaler, 40..60, &mut ready, 2.0);
    assert!(matches!(
        records(&ticks)[0].action,
        Action::Scale { from: 2, to: 9, reason: Reason::Pinned, .. }
    ));
    assert_eq!(ready, 9);
    run(&mut scaler, 60..120, &mut ready, 2.0);
    assert_eq!((ready, scaler.status().operator), (2, None));
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let mut params = app();
    params.mode = ScalingMode::DryRun;
    let mut scaler = scaler(params);
    let ticks: Vec<Tick> = (1..20).map(|s| scaler.tick(&sample(s, 2, 17.3))).collect();
    assert!(ticks.iter().all(|tick| tick.plan.is_none()));
    let said = records(&ticks);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].action, Action::DryRun { from: 2, to: 7 });
}

#[test]
fn a_reload_keeps_the_history() {
    let (mut scaler, mut ready) = (scaler(app()), 2);
    run(&mut scaler, 0..60, &mut ready, 11.0);
    assert_eq!(ready, 4);
    let mut params = app();
    params.concurrency = concurrency(2.0, 0.7);
    scaler.reconfigure(params);
    let tick = scaler.tick(&sample(60, 4, 0.0));
    let formula = &tick.record.expect("a change of size").proposals[0].formula;
    assert!(formula.contains("10.82 in flight ÷ (0.7 × 2)"), "{formula}");
}

#[test]
fn the_outcome_of_a_change_is_told_later() {
    let mut scaler = scaler(app());
    let slow = Sample { p99: Some(0.31), ..sample(1, 2, 17.3) };
    let seq = scaler.tick(&slow).record.expect("a change of size").seq;
    let ticks = (2..40).map(|s| scaler.tick(&Sample { p99: Some(0.084), ..sample(s, 7, 17.3) }));
    let outcome = ticks.filter_map(|tick| tick.outcome).next();
    let expected = Outcome {
        time_to_ready_ms: Some(1000),
        ready: 7,
        p99_before_ms: Some(310.0),
        p99_after_ms: Some(84.0),
    };
    assert_eq!(outcome, Some((seq, expected)));
}

#[test]
fn the_interval_of_a_tick_does_not_matter_to_windows() {
    let mut scaler = scaler(app());
    for step in 0..600u64 {
        let mut sample = sample(0, 4, 11.0);
        sample.at = step * 100_000;
        sample.span = Duration::from_millis(100);
        scaler.tick(&sample);
    }
    assert_eq!(scaler.status().desired, 4);
}
