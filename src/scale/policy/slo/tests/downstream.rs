//! Backends that bring nothing, as something behind them is full.

use super::*;

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
