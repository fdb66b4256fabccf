//! What must hold whatever happens: random configurations, worlds and operators, whole ticks.
//!
//! A failing case is printed with its seed and made small by proptest.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::config::types::{LimitAmount, Scaling, ScalingMode, Select};

use super::Scaler;
use super::fixture::{sample, scaler};
use super::formula::tests::evaluate;
use super::journal::{Journal, record_line};
use super::record::{Action, Reason, Record, Stage};
use super::schedule;
use world::{Played, any_params, play, world};

/// A stage that may move the size whatever the limits say.
fn is_forced(record: &Record) -> bool {
    record.steps.iter().any(|step| matches!(step.stage, Stage::Clamp | Stage::Operator))
}

/// What the limits of a direction allow from the size at the start of each period, told anew from
/// the sizes of all seconds.
fn bound(
    params: &Scaling,
    sizes: &BTreeMap<u64, u32>,
    at: u64,
    from: u32,
    up: bool,
) -> Option<f64> {
    let behaviour = if up { &params.up } else { &params.down };
    if behaviour.select == Select::Disabled {
        return Some(f64::from(from));
    }
    let bounds = behaviour.limits.iter().map(|limit| {
        let begins = at.saturating_sub(limit.per.as_micros() as u64);
        let start = f64::from(sizes.range(..=begins).next_back().map_or(sizes[&0], |(_, n)| *n));
        match (limit.amount, up) {
            (LimitAmount::Backends(k), true) => start + f64::from(k),
            (LimitAmount::Backends(k), false) => (start - f64::from(k)).max(0.0),
            (LimitAmount::Percent(p), true) => {
                (start * (100.0 + f64::from(p)) / 100.0 - 1e-9).ceil()
            }
            (LimitAmount::Percent(p), false) => {
                (start * (100.0 - f64::from(p)).max(0.0) / 100.0 + 1e-9).floor()
            }
        }
    });
    match (behaviour.select == Select::Max) == up {
        true => bounds.reduce(f64::max),
        false => bounds.reduce(f64::min),
    }
}

fn check(params: &Scaling, found: u32, played: &[Played]) -> Result<(), TestCaseError> {
    let mut sizes = BTreeMap::from([(0, found)]);
    for one in played {
        let Played { sample, tick, from, to, pinned } = one;
        let bounds = schedule::at(&params.schedules, sample.wall).bound(params);
        let spent = params.cost.budget_per_month > 0.0 && sample.spent >= Some(40.0);
        prop_assert!(
            *to <= bounds.max.max(if params.mode == ScalingMode::UpOnly { *from } else { 0 }),
            "above max: {:?}",
            one
        );
        prop_assert!(
            *to >= bounds.min.min(bounds.max) || (params.min == 0 && bounds.min == 0),
            "below min: {:?}",
            one
        );
        if spent && to > from && !pinned {
            prop_assert!(*to <= bounds.min.max(1), "beyond the budget: {:?}", one);
        }
        if let Some(plan) = &tick.plan {
            prop_assert!(plan.size <= *to, "more are ordered than wanted: {:?}", one);
            prop_assert!(
                plan.size >= (*to).min(sample.counts.size()),
                "fewer than wanted: {:?}",
                one
            );
            let most = if params.max_surge == 0 { u32::MAX } else { params.max_surge };
            let starting = sample.counts.starting + plan.start;
            prop_assert!(plan.start == 0 || starting <= most, "too many at once: {:?}", one);
        }
        for proposal in tick.record.iter().flat_map(|record| &record.proposals) {
            let (value, n) = evaluate(&proposal.formula);
            prop_assert_eq!((value, n), (f64::from(proposal.wanted), proposal.wanted));
            prop_assert!(proposal.n == proposal.wanted || proposal.held.is_some());
        }
        let Some(record) = tick.record.as_ref().filter(|_| to != from) else {
            prop_assert!(to == from, "a change without a record: {:?}", one);
            continue;
        };
        let told =
            matches!(record.action, Action::Scale { from: f, to: t, .. } if (f, t) == (*from, *to));
        prop_assert!(told, "the record tells another change: {:?}", one);
        leads_there(record)?;
        if to < from && !pinned && *from <= bounds.max {
            prop_assert!(!sample.stale, "removed without telemetry: {:?}", one);
            let asleep = matches!(record.action, Action::Scale { reason: Reason::Idle, .. });
            let blind = record.proposals.iter().any(|proposal| !proposal.valid);
            prop_assert!(!blind || asleep, "removed on missing data: {:?}", one);
        }
        if !is_forced(record) && !pinned {
            let bound = bound(params, &sizes, sample.at, *from, to > from);
            let within = bound.is_none_or(|bound| {
                if to > from { f64::from(*to) <= bound } else { f64::from(*to) >= bound }
            });
            prop_assert!(within, "beyond {:?}: {:?}, {:?}", bound, one, sizes);
        }
        sizes.insert(sample.at, *to);
    }
    Ok(())
}

/// The steps lead from the winner's wish to the size taken.
fn leads_there(record: &Record) -> Result<(), TestCaseError> {
    let Action::Scale { to, .. } = record.action else { return Ok(()) };
    let winner = record.proposals.iter().find(|p| Some(&p.policy) == record.winner.as_ref());
    let mut number = winner.map(|winner| winner.wanted);
    for step in record.steps.iter().filter(|step| step.stage != Stage::Surge) {
        prop_assert!(number.is_none_or(|number| number == step.from), "{:?}", record);
        number = Some(step.to);
    }
    prop_assert_eq!(number.unwrap_or(record.from), to, "{:?}", record);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn whatever_happens(
        params in any_params(), found in 0..20u32, worlds in prop::collection::vec(world(), 1..90),
    ) {
        let run = || play(&mut scaler(params.clone()), 1, found, &worlds);
        let played = run();
        prop_assert_eq!(&played, &run(), "the same again");
        check(&params, found, &played)?;
    }

    /// A scaler that reads the journal decides, limits and cools down like the one that wrote it.
    #[test]
    fn a_restart_goes_on_from_the_journal(
        params in any_params(), found in 1..20u32, worlds in prop::collection::vec(world(), 1..60),
    ) {
        let mut first = scaler(params.clone());
        let played = play(&mut first, 1, found, &worlds);
        let mut journal = Journal::new(1000);
        for record in played.iter().filter_map(|one| one.tick.record.as_ref()) {
            // As it comes from the disk.
            let line = record_line(record);
            journal.push(serde_json::from_str(&line).expect("its own line"));
        }
        let mut second = Scaler::new("app".into(), params.clone(), journal.next_seq());
        second.recall(journal.oldest());
        let last = played.last().expect("one at least");
        // A clock that begins now.
        let mut sample = sample(0, last.to, 0.0);
        sample.wall = last.sample.wall;
        second.tick(&sample);
        prop_assert!(second.seq() >= first.seq());
        let (ours, theirs) = (second.memory(), first.memory());
        let moved = |at: i64| at - last.sample.at as i64;
        // The first tick after it may have changed the size again.
        let changed = second.status().desired != last.to;
        for (now, then) in [(ours.last_up, theirs.last_up), (ours.last_down, theirs.last_down)] {
            prop_assert!(now == then.map(moved) || now == Some(0), "{:?} {:?}", now, then);
        }
        for period in params.up.limits.iter().chain(&params.down.limits).map(|limit| limit.per) {
            let before = theirs.within(last.sample.at, period);
            prop_assert!(ours.within(0, period) == before || changed, "{:?}: {:?} {:?}", period, ours, theirs);
        }
        prop_assert!(ours.is_flapping() == theirs.is_flapping() || changed);
    }
}
