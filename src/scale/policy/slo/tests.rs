//! The policy in the whole scaler: its golden step, and what it does not believe.

mod downstream;
mod learning;

use std::time::Duration;

use super::{Input, Policy, SloPolicy};
use crate::config::types::{Scaling, SloPolicy as Config};
use crate::scale::fixture::{quick, sample, scaler};
use crate::scale::formula::tests::evaluate;
use crate::scale::history::History;
use crate::scale::record::{Action, Proposed, Reason};
use crate::scale::season::Window;
use crate::scale::{Sample, Scaler, Traffic, Wall};

fn config() -> Config {
    Config {
        latency: Some(Duration::from_millis(450)),
        quantile: 0.99,
        headroom: 1.25,
        max_utilization: 0.95,
        wait_probability: 0.002,
        slots: Some(4.0),
        service_time: Some(Duration::from_millis(100)),
        lead_time: Duration::from_secs(30),
        seasonal: true,
    }
}

fn unknown() -> Config {
    Config { latency: None, slots: None, service_time: None, ..config() }
}

fn params(config: Config) -> Scaling {
    Scaling { min: 2, max: 60, slo: Some(config), ..quick() }
}

/// A second with so many arrivals, all of them served at once.
fn second(at: u64, ready: u32, arrivals: f64) -> Sample {
    let in_flight = arrivals * 0.1;
    let traffic = Traffic { arrivals, busy: 0.0, ..Traffic::default() };
    Sample { traffic, ..sample(at, ready, in_flight) }
}

/// Runs a service whose orders are carried out at once; every change of size and every proposal.
fn run(
    scaler: &mut Scaler,
    seconds: std::ops::Range<u64>,
    ready: &mut u32,
    arrivals: impl Fn(u64) -> Sample,
) -> (Vec<(u64, u32)>, Vec<Proposed>) {
    let (mut changes, mut proposals) = (Vec::new(), Vec::new());
    for at in seconds {
        let mut sample = arrivals(at);
        sample.counts.ready = *ready;
        let tick = scaler.tick(&sample);
        if let Some(record) = &tick.record {
            proposals.extend(record.proposals.clone());
            if let Action::Scale { to, .. } = record.action {
                changes.push((at, to));
            }
        }
        *ready = tick.plan.map_or(*ready, |plan| plan.size);
    }
    for proposal in &proposals {
        let (value, n) = evaluate(&proposal.formula);
        assert_eq!((value, n), (f64::from(proposal.n), proposal.n), "{}", proposal.formula);
    }
    (changes, proposals)
}

fn load(at: u64) -> Sample {
    second(at, 0, if at < 100 { 60.0 } else { 1000.0 })
}

/// G2 of the golden cases, through samples, pipeline and records.
#[test]
fn the_golden_step_comes_out_of_the_whole_scaler() {
    let mut scaler = scaler(params(config()));
    let mut ready = 2;
    let (changes, proposals) = run(&mut scaler, 0..400, &mut ready, load);
    let expected = [
        (0, 3),
        (100, 15),
        (101, 29),
        (104, 31),
        (107, 32),
        (108, 33),
        (109, 41),
        (110, 45),
        (112, 50),
        (179, 49),
        (180, 43),
        (182, 40),
        (183, 33),
    ];
    assert_eq!(changes, expected);
    assert_eq!(proposals[0].formula, "ceil(60 rps × 1.25 × 0.1 s ÷ (4 slots × 0.625)) = 3");
    assert_eq!(proposals[0].cause, Some(Reason::Level));
    assert!(proposals.iter().any(|p| p.cause == Some(Reason::Trend)));
    assert!(proposals.iter().any(|p| p.cause == Some(Reason::Hold60)));
}

#[test]
fn an_interval_of_five_seconds_is_five_ticks() {
    let mut scaler = scaler(params(config()));
    let mut ready = 2;
    let tick = |at: u64| {
        let mut sample = load(at * 5);
        sample.at = at * 5_000_000;
        sample.span = Duration::from_secs(5);
        sample.traffic.arrivals *= 5.0;
        sample
    };
    let (changes, _) = run(&mut scaler, 0..20, &mut ready, tick);
    assert_eq!(changes, [(0, 3)]);
    let (changes, _) = run(&mut scaler, 20..80, &mut ready, tick);
    assert_eq!(changes.last().map(|(_, to)| *to), Some(33));
}

#[test]
fn fixed_backends_do_their_part() {
    let mut scaler = scaler(params(config()));
    let mut ready = 2;
    let with_fixed = |at| Sample { fixed: 5, ..second(at, 0, 600.0) };
    let (changes, proposals) = run(&mut scaler, 0..100, &mut ready, with_fixed);
    // 750 rps with the head-room need 20.
    assert_eq!(changes, [(0, 15)]);
    assert!(proposals[0].formula.contains("− 5 fixed"), "{}", proposals[0].formula);
}

#[test]
fn what_waits_at_the_backends_is_a_backlog_too() {
    let mut scaler = scaler(params(config()));
    let mut ready = 2;
    let busy = |at| {
        let mut sample = second(at, 0, 60.0);
        sample.traffic.busy = if at == 10 { 500.0 } else { 5.0 };
        sample
    };
    let (changes, proposals) = run(&mut scaler, 0..12, &mut ready, busy);
    assert_eq!(changes[1], (10, 52));
    assert_eq!(proposals[1].cause, Some(Reason::Backlog));
}

#[test]
fn a_goal_below_the_time_of_a_request_is_told_and_not_chased() {
    let impossible = Config { latency: Some(Duration::from_millis(50)), ..config() };
    let mut scaler = scaler(params(impossible));
    let mut ready = 2;
    let (changes, proposals) = run(&mut scaler, 0..100, &mut ready, |at| second(at, 0, 60.0));
    // A quarter of a service time may be waited for.
    assert_eq!(changes, [(0, 4)]);
    let note = proposals[0].note.as_deref().unwrap_or_default();
    assert!(note.contains("slo_unreachable"), "{note}");
}

#[test]
fn ticks_without_telemetry_are_no_arrivals_of_zero() {
    let mut scaler = scaler(params(config()));
    let mut ready = 2;
    run(&mut scaler, 0..100, &mut ready, |at| second(at, 0, 600.0));
    let before = ready;
    let silent = |at| Sample { stale: true, ..second(at, 0, 0.0) };
    let (changes, _) = run(&mut scaler, 100..400, &mut ready, silent);
    assert_eq!((changes, ready), (vec![], before));
}

#[test]
fn after_a_start_nothing_is_removed_for_a_minute() {
    let mut scaler = scaler(params(config()));
    let mut ready = 40;
    let (changes, _) = run(&mut scaler, 0..200, &mut ready, |at| second(at, 0, 60.0));
    assert_eq!(changes.first().map(|(at, _)| *at), Some(60));
    assert_eq!(ready, 3);
}

/// The backends for a step of every day are ordered before it comes, and the record says why.
#[test]
fn a_step_of_yesterday_is_prepared_for() {
    const HOUR: u64 = 3_600_000;
    // An hour of 100 requests/s and one of 412 in turn, for two days and an hour.
    let windows = (0..49 * 12).map(|window: u64| Window {
        from: Wall(window * HOUR / 12),
        rate: if window / 12 % 2 == 1 { 412.0 } else { 100.0 },
    });
    let changes = |seasonal: bool| {
        let mut scaler = scaler(params(Config { seasonal, ..config() }));
        scaler.recall_season(windows.clone());
        let calm = |at: u64| Sample {
            wall: Wall(49 * HOUR + at * 1000 - 120_000),
            ..second(at, 0, 100.0)
        };
        // Of the last two minutes before the hour.
        run(&mut scaler, 1..119, &mut 4, calm)
    };
    assert_eq!(changes(false).0, []);
    let (orders, proposals) = changes(true);
    // With 30 s of lead time; 412 × 1.25 × 0.1 s need 13 of 4 slots, and Erlang C one more.
    assert_eq!(orders, [(90, 14)]);
    let proposal = &proposals[0];
    assert_eq!(proposal.cause, Some(Reason::Seasonal));
    assert!(proposal.formula.contains("412 rps yesterday × 1.25 × 0.1 s"), "{}", proposal.formula);
    let note = proposal.note.as_deref().unwrap_or_default();
    assert!(note.starts_with("yesterday at this time came 412 requests a second"), "{note}");
}
