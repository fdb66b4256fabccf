//! The policy in the whole scaler: its golden step, what it does before it knows its service, and
//! what it does not believe.

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

/// A second of a service whose backends have `slots` of 100 ms each.
fn served(at: u64, ready: u32, concurrency: f64, slots: f64) -> Sample {
    let time = 0.1 * (concurrency / slots).max(1.0);
    let all = f64::from(ready) * concurrency;
    let finished = (all / time).round() as u64;
    let mut sample = sample(at, ready, all);
    sample.traffic = Traffic {
        arrivals: finished as f64,
        busy: all,
        finished,
        failed: 0,
        abandoned: 0,
        shed: 0,
        mean: time,
        durations: vec![(time, finished)],
    };
    sample
}

fn unknown() -> Config {
    Config { latency: None, slots: None, service_time: None, ..config() }
}

/// What the policy says to seconds, one after the other.
struct Told {
    policy: SloPolicy,
    history: History,
    at: u64,
}

impl Told {
    fn new() -> Self {
        Self { policy: SloPolicy::new(unknown(), None), history: History::default(), at: 0 }
    }

    fn seconds(&mut self, count: u32, second: impl Fn(u64) -> Sample) -> Proposed {
        let mut last = None;
        for _ in 0..count {
            self.at += 1;
            let sample = second(self.at);
            self.history.push(&sample);
            let proposed = self.policy.propose(&Input {
                now: sample.at,
                sample: &sample,
                history: &self.history,
                current: sample.counts.ready,
                max_age: Duration::from_secs(15),
                saturated: false,
                season: None,
            });
            let (value, n) = evaluate(&proposed.formula);
            assert_eq!((value, n), (f64::from(proposed.n), proposed.n), "{}", proposed.formula);
            last = Some(proposed);
        }
        last.expect("seconds")
    }
}

#[test]
fn before_the_first_answers_it_goes_by_what_is_in_flight() {
    let mut told = Told::new();
    let unanswered = |in_flight| move |at| sample(at, 3, in_flight);
    let proposed = told.seconds(5, unanswered(5.0));
    assert_eq!(proposed.formula, "ceil(5 in flight ÷ (0.7 × 2 slots)) = 4");
    assert_eq!(proposed.cause, Some(Reason::Learning));
    let proposed = told.seconds(60, unanswered(500.0));
    assert_eq!(proposed.n, 6, "{proposed:?}");
    assert!(proposed.formula.starts_with("min(ceil("), "{proposed:?}");
}

#[test]
fn slots_that_are_not_known_are_what_was_served_well_and_a_third_more() {
    let mut told = Told::new();
    let proposed = told.seconds(2, |at| served(at, 4, 1.0, 16.0));
    assert!(proposed.formula.contains("2 slots"), "{proposed:?}");
    let proposed = told.seconds(10, |at| served(at, 4, 6.0, 16.0));
    assert!(proposed.formula.contains("8 slots"), "{proposed:?}");
    let note = proposed.note.as_deref().unwrap_or_default();
    let expected = "slots are not known yet: at least 6 seen to be served well";
    assert!(note.contains(expected), "{note}");
}

#[test]
fn one_second_of_waiting_shows_the_slots() {
    let mut told = Told::new();
    told.seconds(20, |at| served(at, 10, 2.0, 4.0));
    let proposed = told.seconds(1, |at| served(at, 10, 12.0, 4.0));
    assert!(proposed.formula.contains("4 slots"), "{proposed:?}");
    let note = proposed.note.as_deref().unwrap_or_default();
    assert!(!note.contains("not known"), "{note}");
}

/// Small backends of which nothing is known, and a load that is ten times what it was: twice as many
/// and not twenty times.
#[test]
fn while_slots_are_not_known_the_number_at_most_doubles() {
    let mut told = Told::new();
    told.seconds(20, |at| served(at, 4, 1.0, 100.0));
    let proposed = told.seconds(3, |at| Sample {
        // Nothing is answered any more, so nothing is learned.
        traffic: Traffic { arrivals: 4000.0, busy: 400.0, ..Traffic::default() },
        ..served(at, 4, 100.0, 100.0)
    });
    assert_eq!((proposed.n, proposed.cause), (8, Some(Reason::Learning)), "{proposed:?}");
    assert!(proposed.formula.contains(", 2 × 4 ready) = 8"), "{proposed:?}");
    assert!(proposed.note.as_deref().unwrap_or_default().contains("ordered at once"));
}

/// A restart into an overload: what was learned before counts from the first second on.
#[test]
fn what_was_learned_outlives_the_policy() {
    let mut told = Told::new();
    assert_eq!(told.policy.learned(), None);
    let with_lead =
        |lead, second: Sample| Sample { lead: Some(Duration::from_secs(lead)), ..second };
    told.seconds(20, |at| with_lead(12, served(at, 10, 2.0, 4.0)));
    told.seconds(1, |at| with_lead(12, served(at, 10, 12.0, 4.0)));
    let learned = told.policy.learned().expect("all is known");
    assert_eq!((learned.limited, learned.lead_time), (true, Some(12.0)));
    assert!((learned.pace * learned.service_time - 4.0).abs() < 1e-6, "{learned:?}");

    let mut next = Told::new();
    next.policy.remember(&learned);
    assert_eq!(next.policy.learned(), Some(learned), "passed on unchanged");
    let proposed = next.seconds(1, |at| served(at, 10, 12.0, 4.0));
    assert!(proposed.formula.contains("0.1 s ÷ (4 slots"), "{proposed:?}");
    assert!(!proposed.note.as_deref().unwrap_or_default().contains("not known"), "{proposed:?}");
    // And it learns on: these serve eight at once.
    let proposed = next.seconds(30, |at| served(at, 10, 8.0, 8.0));
    assert!(proposed.formula.contains("11 slots"), "{proposed:?}");
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

/// A load that grows, before something that gets 80 requests/s done however many backends there are.
#[test]
fn backends_that_bring_nothing_are_not_added_and_it_says_so() {
    let mut scaler = scaler(params(config()));
    let mut ready = 2;
    let behind = |at: u64| {
        let mut sample = second(at, 0, 60.0 + at as f64);
        let waiting = 0.0_f64.max(at as f64 - 20.0) * 5.0;
        let (finished, time) = (sample.traffic.arrivals.min(80.0), 0.1 + waiting / 80.0);
        sample.in_flight = finished * time;
        sample.traffic = Traffic {
            busy: sample.in_flight,
            finished: finished as u64,
            mean: time,
            durations: vec![(time, finished as u64)],
            ..sample.traffic
        };
        sample
    };
    let (_, proposals) = run(&mut scaler, 0..30, &mut ready, behind);
    assert!(proposals.iter().all(|p| p.held.is_none()));
    let mut refused = Vec::new();
    for at in 30..180 {
        let mut sample = behind(at);
        sample.counts.ready = ready;
        let tick = scaler.tick(&sample);
        refused.extend(tick.record.filter(|r| matches!(r.action, Action::Refuse { .. })));
        ready = tick.plan.map_or(ready, |plan| plan.size);
    }
    let bound = refused.iter().find(|record| {
        matches!(record.action, Action::Refuse { reason: Reason::DownstreamBound, .. })
    });
    let record = bound.unwrap_or_else(|| panic!("{refused:#?}"));
    let Action::Refuse { at, wanted, .. } = record.action else { unreachable!("just matched") };
    assert!(wanted > at, "{record:?}");
    let proposal = &record.proposals[0];
    assert_eq!((proposal.n, proposal.held), (at, Some(Reason::DownstreamBound)));
    assert!(
        proposal.note.as_deref().unwrap_or_default().contains("requests/s with"),
        "{proposal:?}"
    );
}

/// The same where requests wait here, so that how long one takes is never seen.
#[test]
fn what_brings_nothing_is_not_added_either_while_nothing_is_known() {
    let (mut scaler, mut ready) = (scaler(params(unknown())), 1);
    let crowded = |at: u64| {
        let mut sample = sample(at, 0, 40.0);
        sample.queued = 20.0;
        sample.traffic = Traffic { arrivals: 60.0, finished: 20, ..Traffic::default() };
        sample
    };
    let mut orders = Vec::new();
    for at in 0..200 {
        let mut sample = crowded(at);
        // One is ready 12 s after its order.
        sample.counts.ready = orders.iter().filter(|(when, _)| when + 12 <= at).fold(1, |_, o| o.1);
        sample.counts.starting = ready - sample.counts.ready;
        let tick = scaler.tick(&sample);
        ready = tick.plan.map_or(ready, |plan| plan.size);
        if orders.last().map_or(1, |(_, size)| *size) != ready {
            orders.push((at, ready));
        }
        let bound = tick.record.is_some_and(|record| {
            matches!(record.action, Action::Refuse { reason: Reason::DownstreamBound, .. })
        });
        if bound {
            // 4 readings of 5 s after the first ones were ready.
            assert!(at <= 50 && ready <= 16, "{at}: {orders:?}");
            return;
        }
    }
    panic!("never seen: {orders:?}");
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
