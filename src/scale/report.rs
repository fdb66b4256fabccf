//! Writes the record of a decision: a pure function of what was seen and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::Cost;

use super::formula::rounded;
use super::memory::micros;
use super::pipeline::{self, Verdict, View};
use super::policy::metric_name;
use super::record::{
    Action, Current, HourlyCost, HourlySpend, PerHour, Reason, Record, SignalSeen, Stage, Step,
};
use super::{Plan, Signal, WINDOW, Wall};

/// The action of a change of size.
pub fn scale(view: &View<'_>, verdict: &Verdict) -> Action {
    let plan = Plan::new(view.sample, verdict.to, view.params.max_surge, 0);
    let names = |ids: Vec<std::sync::Arc<str>>| ids.iter().map(|id| id.to_string()).collect();
    Action::Scale {
        from: view.from,
        to: verdict.to,
        undrain: names(plan.undrain),
        start: plan.start,
        cancel: names(plan.cancel),
        drain: names(plan.drain),
        reason: reason(view, verdict),
    }
}

/// The policies' wish, unless a stage turned the size against it (min, max, a pin).
fn reason(view: &View<'_>, verdict: &Verdict) -> Reason {
    let forced = verdict.moves.iter().rev().find(|step| {
        matches!(step.stage, Stage::Operator)
            || (step.stage == Stage::Clamp && (step.from > view.from) != (verdict.to > view.from))
            || (step.stage == Stage::Clamp && step.from == view.from)
            // None is no policy's wish.
            || step.change.reason == Reason::Idle
    });
    let wish = || view.winner.and_then(|winner| winner.cause).unwrap_or(Reason::Policy);
    forced.map_or_else(wish, |step| step.change.reason)
}

/// The whole record.
pub fn record(
    service: &str,
    seq: u64,
    view: &View<'_>,
    verdict: &Verdict,
    action: Action,
) -> Record {
    let (sample, counts) = (view.sample, view.sample.counts);
    let steps = verdict.moves.iter().map(|step| Step {
        stage: step.stage,
        from: step.from,
        to: step.change.to,
        reason: step.change.reason,
        until: step.change.until.map(|until| wall(view, until)),
    });
    Record {
        seq,
        time: sample.wall,
        service: service.to_owned(),
        current: Current {
            ready: counts.ready,
            starting: counts.starting,
            draining: counts.draining,
            unhealthy: counts.unhealthy,
            ejected: counts.ejected,
        },
        from: view.from,
        min: view.params.min,
        max: view.params.max,
        signals: signals(view),
        proposals: view.proposals.to_vec(),
        winner: view.winner.map(|winner| winner.policy.clone()),
        steps: steps.chain(surge(view, verdict)).collect(),
        without: without(view, verdict),
        not_down_before: not_down_before(view, &action),
        cost: Some(cost(&view.params.cost, &action)),
        action,
        outcome: None,
    }
}

/// What an hour costs at the sizes that the action is about.
fn cost(price: &Cost, action: &Action) -> HourlyCost {
    let (before, after, wanted) = match *action {
        Action::Scale { from, to, .. } | Action::Adopt { from, to } => (from, to, None),
        Action::Replace { size, .. } => (size, size, None),
        Action::Refuse { at, wanted, .. } => (at, at, Some(wanted).filter(|n| *n != at)),
        Action::DryRun { from, to } => (from, from, Some(to)),
    };
    let times = |each: f64| {
        let of = |n: u32| each * f64::from(n);
        PerHour { before: of(before), after: of(after), wanted: wanted.map(of) }
    };
    let PerHour { before, after, wanted } = times(price.per_backend_hour);
    let spend = HourlySpend {
        currency: price.currency.clone(),
        per_backend_hour: price.per_backend_hour,
        before,
        after,
        wanted,
    };
    let spend = (price.per_backend_hour > 0.0).then_some(spend);
    HourlyCost { backend_hours: times(1.0), spend }
}

fn signals(view: &View<'_>) -> Vec<SignalSeen> {
    let plain = |name: &str, value| SignalSeen {
        name: name.to_owned(),
        value: Some(value),
        missing: 0,
        age_ms: 0,
    };
    let asked = view.sample.signals.iter().map(|signal| SignalSeen {
        name: signal_name(signal),
        value: signal.value,
        missing: signal.missing,
        age_ms: signal.age.as_millis() as u64,
    });
    [plain("in_flight total", view.sample.in_flight), plain("queued", view.sample.queued)]
        .into_iter()
        .chain(asked)
        .collect()
}

/// `response_time p95`, and over what where that is not the usual.
fn signal_name(signal: &Signal) -> String {
    let name = metric_name(&signal.metric, signal.quantile);
    match signal.metric.is_windowed() && signal.window != WINDOW {
        true => format!("{name} over {} s", rounded(signal.window.as_secs_f64())),
        false => name,
    }
}

/// Starts that have to wait for their turn.
fn surge(view: &View<'_>, verdict: &Verdict) -> Option<Step> {
    let size = Plan::new(view.sample, verdict.to, view.params.max_surge, 0).size;
    (size < verdict.to).then_some(Step {
        stage: Stage::Surge,
        from: verdict.to,
        to: size,
        reason: match view.winner.and_then(|winner| winner.cause) {
            Some(Reason::Backlog) => Reason::BacklogSurge,
            _ => Reason::MaxSurge,
        },
        until: None,
    })
}

/// What the size would be without each stage that changed the number.
fn without(view: &View<'_>, verdict: &Verdict) -> BTreeMap<Stage, u32> {
    let sizes =
        verdict.moves.iter().map(|step| (step.stage, pipeline::run(view, Some(step.stage)).to));
    sizes.filter(|(_, size)| *size != verdict.to).collect()
}

fn not_down_before(view: &View<'_>, action: &Action) -> Option<Wall> {
    let Action::Scale { to, .. } = action else { return None };
    let wait = micros(view.params.down.cooldown).max(view.memory.down_window(&view.params.down));
    (*to > view.params.min && wait > 0)
        .then(|| wall(view, (view.now + wait).max(view.memory.hold_until)))
}

fn wall(view: &View<'_>, at: Micros) -> Wall {
    view.sample.wall.plus(Duration::from_micros(at.saturating_sub(view.now)))
}
