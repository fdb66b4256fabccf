//! A decision of `slo` as a proposal: its arithmetic as a formula, and what to say of it.
//!
//! Erlang C has no short formula, so its result is written as the utilization that it allows:
//! `ceil(412 rps × 0.081 s × 1.25 ÷ (4 slots × 0.92)) = 12` says that twelve backends are the
//! fewest at which too few requests wait to matter, and that their slots are 92 % busy then at most.

use crate::clock::Micros;
use crate::config::types::SloPolicy as Config;
use crate::scale::formula::{Term, rounded};
use crate::scale::record::{Proposed, Reason};
use crate::scale::season::Expected;
use crate::scale::slo::{Decision, Why};

use super::downstream::Bound;
use super::{Input, Model, NAME, Unknown, most};

/// Digits that a utilization is written with.
const DIGITS: i32 = 4;

pub(super) fn proposed(
    config: &Config,
    decision: &Decision,
    model: &Model,
    expected: Option<Expected>,
    bound: Option<Bound>,
    input: &Input<'_>,
) -> Proposed {
    let expected = expected.filter(|_| decision.seasonal);
    let term = needed(config, decision, model, expected);
    let current = input.current + input.sample.fixed;
    let term = if decision.n == decision.need {
        term
    } else if decision.n < current || decision.wish == decision.n {
        term.max(Term::count(decision.n, "needed lately"))
    } else {
        term.max(Term::count(decision.n, "now"))
    };
    // What is known to be in vain is refused as a whole.
    let unknown = model.unknown.filter(|_| bound.is_none());
    let (wish, term) = match unknown {
        None => (term.value(), term),
        Some(unknown) => (term.value(), most(term, unknown, input)),
    };
    let careful = term.value() < wish;
    let term = match input.sample.fixed {
        0 => term,
        fixed => term.minus(Term::count(fixed, "fixed")),
    };
    let (wanted, formula) = term.finish();
    let cause = match model.unreachable {
        _ if careful => Reason::Learning,
        Some(_) if decision.why == Why::Backlog => Reason::SloUnreachable,
        _ => reason(decision.why),
    };
    let proposed = Proposed {
        policy: NAME.to_owned(),
        n: wanted,
        formula,
        wanted,
        cause: Some(cause),
        held: None,
        valid: true,
        note: Some(note(decision, model, expected, input, careful)),
    };
    unless(bound, proposed, input)
}

/// What is proposed, unless that is more of what brought nothing.
pub(super) fn unless(bound: Option<Bound>, proposed: Proposed, input: &Input<'_>) -> Proposed {
    match bound.filter(|_| proposed.wanted > input.current) {
        None => proposed,
        Some(bound) => Proposed {
            n: input.current,
            held: Some(Reason::DownstreamBound),
            note: Some(in_vain(&bound, input.now)),
            ..proposed
        },
    }
}

/// The need as a formula whose value it is.
fn needed(config: &Config, decision: &Decision, model: &Model, expected: Option<Expected>) -> Term {
    let present = config.headroom * decision.level;
    let rate = if let Some(expected) = expected {
        let came = Term::number(expected.came, before(expected));
        let quieter = expected.share < 1.0;
        let came = if quieter { came.times(Term::number(expected.share, "")) } else { came };
        came.times(Term::number(config.headroom, ""))
    } else if decision.forecast > present {
        Term::number(decision.forecast, "rps to come")
    } else {
        Term::number(decision.level, "rps").times(Term::number(config.headroom, ""))
    };
    let rate = if decision.backlog > 0.0 && expected.is_none() {
        rate.plus(Term::number(decision.backlog, "rps to catch up"))
    } else {
        rate
    };
    let load = rate.times(Term::number(model.service, "s"));
    let slots = Term::number(model.slots, "slots");
    let busy =
        utilization(load.value(), slots.value(), decision.need).unwrap_or(config.max_utilization);
    load.over(slots.times(Term::number(busy, ""))).ceil()
}

/// The utilization with which the load needs exactly `n` backends; `None` without a load.
fn utilization(load: f64, slots: f64, n: u32) -> Option<f64> {
    if load <= 0.0 || n == 0 {
        return None;
    }
    let exact = load / (slots * f64::from(n));
    // Nine decimals are written at most.
    let unit = 10_f64.powi((exact.log10().floor() as i32 + 1 - DIGITS).max(-9));
    Some((exact / unit).ceil() * unit)
}

fn reason(why: Why) -> Reason {
    match why {
        Why::Level { .. } => Reason::Level,
        Why::Trend { .. } => Reason::Trend,
        Why::Backlog => Reason::Backlog,
        Why::Season => Reason::Seasonal,
        Why::Hold60 => Reason::Hold60,
        Why::Hold180 => Reason::Hold180,
        Why::Collapse => Reason::Collapse,
    }
}

/// When that was, as a unit.
fn before(expected: Expected) -> &'static str {
    if expected.days == 1 { "rps yesterday" } else { "rps last week" }
}

fn season(expected: Option<Expected>) -> String {
    let Some(expected) = expected else { return "more came at this time before".to_owned() };
    let when = if expected.days == 1 { "yesterday" } else { "last week" };
    let came = format!("{when} at this time came {} requests a second", rounded(expected.came));
    match expected.share < 1.0 {
        true => format!("{came}, and {} of what came then comes today", rounded(expected.share)),
        false => came,
    }
}

fn note(
    decision: &Decision,
    model: &Model,
    expected: Option<Expected>,
    input: &Input<'_>,
    careful: bool,
) -> String {
    let why = match decision.why {
        Why::Level { window: window @ 60.. } => format!("the mean of the last {window} s"),
        Why::Level { window } => format!("of the last {window} s, certain at 3 standard errors"),
        Why::Trend { slope } => format!("the rate rises by {} rps each second", rounded(slope)),
        Why::Backlog => format!(
            "{} requests wait and {} are at backends, more than the slots clear in time",
            rounded(input.sample.queued),
            rounded(input.sample.traffic.busy)
        ),
        Why::Season => season(expected),
        Why::Hold60 => format!("{} were needed within the last 60 s", decision.wish),
        Why::Hold180 => {
            format!("{} were needed within the last 180 s, for a step this small", decision.wish)
        }
        Why::Collapse => {
            "the rate fell by more than half, so what was needed before is over".to_owned()
        }
    };
    let why = match model.unknown {
        None => why,
        Some(unknown) => {
            let more = if careful { ", so no more than that are ordered at once" } else { "" };
            format!("{why}; {}{more}", missing(unknown))
        }
    };
    let wait = rounded(model.wait * 1e3);
    match model.unreachable {
        None => format!("{why}; waits over {wait} ms stay rare"),
        Some((goal, alone)) => format!(
            "{why}; slo_unreachable: without waiting a request takes {} ms, the goal is {} ms, and \
             more backends do not change that",
            rounded(alone * 1e3),
            rounded(goal * 1e3)
        ),
    }
}

/// Of `backends`, `rate` and the moments: what was tried, and what comes next.
fn in_vain(bound: &Bound, now: Micros) -> String {
    let (before, after) = (bound.before, bound.after);
    format!(
        "{} requests/s with {} backends and {} with {}, while requests wait in both cases; more are \
         tried in {} s, or when more gets done",
        rounded(before.1),
        rounded(before.0),
        rounded(after.1),
        rounded(after.0),
        bound.until.saturating_sub(now) / 1_000_000
    )
}

fn missing(unknown: Unknown) -> String {
    match unknown {
        Unknown::Slots { seen } if seen > 0.0 => {
            format!("slots are not known yet: at least {} seen to be served well", rounded(seen))
        }
        Unknown::Slots { .. } => "slots are not known yet".to_owned(),
        Unknown::Cause => "requests wait although backends get less done than before".to_owned(),
        Unknown::Use => "the last ones that were added brought nothing".to_owned(),
        Unknown::ServiceTime => "the service time is not known yet, and at most that".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::formula::ceil;

    #[test]
    fn the_utilization_that_is_written_gives_the_number() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let load = 10_f64.powf(rng.f64() * 5.0 - 2.0);
            let slots = f64::from(rng.u32(1..64));
            let least = ceil(load / slots) as u32;
            let n = least.max(1) + rng.u32(0..3);
            let busy: f64 = rounded(utilization(load, slots, n).expect("a load")).parse().unwrap();
            assert_eq!(ceil(load / (slots * busy)) as u32, n, "{load} on {n} × {slots}: {busy}");
        }
    }
}
