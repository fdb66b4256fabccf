//! From a record to sentences that a tired operator understands.
//!
//! The words are made here and only here; the record holds numbers and closed lists.

use std::fmt::Write;

use jiff::tz::TimeZone;

use super::record::{Action, HourlyCost, Outcome, PerHour, Proposed, Reason, Record, Stage, Step};

/// Several lines: when and what, because, limits, otherwise, cost, then, next.
pub fn explain(record: &Record, zone: &TimeZone) -> String {
    let mut out = format!("{}  {}\n", record.time.clock(zone), headline(&record.action));
    let sections = [
        ("because", because(record)),
        ("limits", limits(record, zone)),
        ("otherwise", otherwise(record)),
        ("cost", record.cost.iter().map(cost).collect()),
        ("then", record.outcome.map(|outcome| then(record, &outcome)).into_iter().collect()),
        ("next", next(record, zone).into_iter().collect()),
    ];
    for (title, lines) in sections {
        for (i, line) in lines.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {:<10}{line}", if i == 0 { title } else { "" });
        }
    }
    out
}

/// One line for the terminal.
pub fn one_line(record: &Record, zone: &TimeZone) -> String {
    let what = match &record.action {
        Action::Scale { from, to, .. } => {
            let sign = if to > from { '+' } else { '−' };
            format!("{sign}{} → {to}", to.abs_diff(*from))
        }
        action => headline(action),
    };
    let why = match &record.action {
        Action::Scale { reason, .. } if reason.is_wish() => {
            winner(record).map(|p| format!("  {}: {}", p.policy, p.formula)).unwrap_or_default()
        }
        Action::Scale { reason, .. } => format!("  {}", sentence(*reason, record)),
        _ => String::new(),
    };
    let service = &record.service;
    format!(
        "{}  {service}  {what}{why}    (explain: tidegate explain {service})",
        record.time.clock(zone)
    )
}

fn headline(action: &Action) -> String {
    match action {
        Action::Scale { from, to, .. } => format!("{from} → {to} backends"),
        Action::Refuse { at, wanted, .. } if at == wanted => format!("holds {at} backends"),
        Action::Refuse { at, wanted, .. } => {
            format!("stays at {at} backends, {wanted} were wanted")
        }
        Action::Replace { size, lost: 1 } => {
            format!("1 of {size} backends went away, it is replaced")
        }
        Action::Replace { size, lost } => {
            format!("{lost} of {size} backends went away, they are replaced")
        }
        Action::Adopt { from, to } => format!("{from} → {to} backends, set by someone else"),
        Action::DryRun { from, to } => format!("would go {from} → {to} backends (dry run)"),
    }
}

fn winner(record: &Record) -> Option<&Proposed> {
    let name = record.winner.as_deref()?;
    record.proposals.iter().find(|proposal| proposal.policy == name)
}

fn because(record: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    if let Action::Scale { reason, .. } | Action::Refuse { reason, .. } = &record.action
        && !reason.is_wish()
    {
        lines.push(sentence(*reason, record));
    }
    let winner = winner(record);
    for proposal in winner.into_iter().chain(
        record.proposals.iter().filter(|p| winner.is_none_or(|winner| winner.policy != p.policy)),
    ) {
        let Proposed { policy, wanted, formula, .. } = proposal;
        let mut line = if proposal.valid {
            format!("{policy} wants {wanted}: {formula}")
        } else {
            format!("{policy} cannot say")
        };
        if let Some(note) = &proposal.note {
            let _ = write!(line, "; {note}");
        }
        if let Some(held) = proposal.held.filter(|_| proposal.valid) {
            let _ = write!(line, "; {}", sentence(held, record));
        }
        lines.push(line);
    }
    if record.proposals.len() > 1 {
        lines.push("the largest wish counts".to_owned());
    }
    lines
}

fn limits(record: &Record, zone: &TimeZone) -> Vec<String> {
    let mut lines: Vec<String> =
        record.steps.iter().map(|step| limit(step, record, zone)).collect();
    if lines.is_empty() {
        lines.push(format!("none · min {} · max {}", record.min, record.max));
    }
    lines
}

fn limit(step: &Step, record: &Record, zone: &TimeZone) -> String {
    let mut line = format!("{} → {}: {}", step.from, step.to, sentence(step.reason, record));
    if let Some(until) = step.until {
        let _ = write!(line, ", until {}", until.clock(zone));
    }
    line
}

fn otherwise(record: &Record) -> Vec<String> {
    let line =
        |(stage, size): (&Stage, &u32)| format!("without {} it would be {size}", name(*stage));
    record.without.iter().map(line).collect()
}

/// In money where there is a price, else in backend-hours.
fn cost(cost: &HourlyCost) -> String {
    let PerHour { before, after, wanted } = cost.backend_hours;
    let Some(spend) = &cost.spend else {
        let unit = if after == 1.0 { "backend-hour" } else { "backend-hours" };
        return hourly([Some(before), Some(after), wanted], unit, 0);
    };
    // Cents, and two digits of a price that is of less than ten of them.
    let decimals = (1.0 - spend.per_backend_hour.log10().floor()).clamp(2.0, 12.0) as usize;
    hourly([Some(spend.before), Some(spend.after), spend.wanted], &spend.currency, decimals)
}

/// `0.70 EUR an hour, 0.20 before`
fn hourly(amounts: [Option<f64>; 3], unit: &str, decimals: usize) -> String {
    let [before, after, wanted] = amounts.map(|of| of.map(|n| format!("{n:.decimals$}")));
    let (same, after) = (before == after, after.unwrap_or_default());
    match (wanted, before) {
        (Some(wanted), _) => format!("{after} {unit} an hour as before, {wanted} was wanted"),
        (None, Some(before)) if !same => format!("{after} {unit} an hour, {before} before"),
        _ => format!("{after} {unit} an hour as before"),
    }
}

fn then(record: &Record, outcome: &Outcome) -> String {
    let added = match &record.action {
        Action::Scale { from, to, .. } if to > from => to - from,
        _ => 0,
    };
    let mut parts = Vec::new();
    match outcome.time_to_ready_ms {
        Some(ms) => parts.push(format!("{added} ready after {:.2} s", ms as f64 / 1000.0)),
        None if added > 0 => parts.push(format!("only {} became ready", outcome.ready)),
        None => parts.push(format!("{} ready", outcome.ready)),
    }
    if let (Some(before), Some(after)) = (outcome.p99_before_ms, outcome.p99_after_ms) {
        parts.push(format!("p99 {before:.0} → {after:.0} ms"));
    }
    parts.join(", ")
}

fn next(record: &Record, zone: &TimeZone) -> Option<String> {
    let until = record.steps.iter().filter_map(|step| step.until).max();
    match (&record.action, record.not_down_before) {
        (_, Some(at)) => Some(format!(
            "down no earlier than {}, if no more is wanted until then",
            at.clock(zone)
        )),
        (Action::Refuse { .. }, None) => Some(match until {
            Some(at) => format!("decided again at {}", at.clock(zone)),
            None => "decided again every tick, as soon as the reason is gone".to_owned(),
        }),
        _ => None,
    }
}

/// The stage as people call it.
fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Validity => "the rule that missing data removes nothing",
        Stage::Floors => "schedules",
        Stage::HealthGate => "counting out broken backends",
        Stage::Tolerance => "tolerance",
        Stage::Stabilization => "stabilization",
        Stage::Limits => "limits",
        Stage::Cooldown => "cooldown",
        Stage::Clamp => "min and max",
        Stage::Budget => "the budget",
        Stage::Projection => "projection",
        Stage::Surge => "max_surge",
        Stage::Operator => "the operator",
        Stage::Mode => "the mode",
    }
}

fn sentence(reason: Reason, record: &Record) -> String {
    let text = match reason {
        Reason::Policy => "as the policy wishes",
        Reason::Level => "for the rate of now",
        Reason::Trend => "for where the rate goes",
        Reason::Backlog => "to clear what waits",
        Reason::Seasonal => "for what came at this time before",
        Reason::Hold60 => "so many were needed within the last 60 s",
        Reason::Hold180 => "a small step down waits until 180 s needed no more",
        Reason::Collapse => "the rate fell by more than half, so what was needed before is over",
        Reason::SloUnreachable => "the goal is shorter than what a request takes without waiting",
        Reason::Learning => "slots and service time are not known yet",
        Reason::DownstreamBound => {
            "backends that were added got no more done: what is full is behind them"
        }
        Reason::Tolerance => "within the tolerance",
        Reason::DirectionTurned => {
            "counting in the backends that do not report turns the direction"
        }
        Reason::MetricMissing => "a metric is missing, so nothing is removed",
        Reason::Stale => "no telemetry for more than three ticks, so nothing is changed",
        Reason::StaleUpOnly => "no telemetry in this tick, so nothing is removed",
        Reason::ErrorsWithoutSaturation => {
            "errors, but no sign of saturation: more backends would not help"
        }
        Reason::BrokenBackends => {
            let broken = record.current.unhealthy + record.current.ejected;
            return format!("{broken} unhealthy or ejected, which are no capacity");
        }
        Reason::Stabilization => "an earlier wish still counts in the stabilization window",
        Reason::Flapping => "up and down too often lately, so the stabilization window is doubled",
        Reason::Limit => "as much as the limits allow in their period",
        Reason::Disabled => "this direction is disabled",
        Reason::Cooldown => "cooldown after the last change",
        Reason::OutsideCooldown => {
            "the size was changed from outside, which is left alone for a while"
        }
        Reason::RestartHold => {
            "just started: nothing is removed until there is a window of history"
        }
        Reason::Scheduled => "a schedule asks for it",
        Reason::AtMin => return format!("min is {}", record.min),
        Reason::Budget => "the budget of this month is spent, so nothing is added",
        Reason::Idle => "there was no request for idle_after",
        Reason::Awake => "the last one stays until there was no request for idle_after",
        Reason::AtMax => return format!("max is {}", record.max),
        Reason::MinHealthy => return format!("fewer than {} (min) are healthy", record.min),
        Reason::Projection => "with fewer, the load of this moment would not fit",
        Reason::MaxSurge => "max_surge: the rest starts when these are ready",
        Reason::BacklogSurge => {
            "max_surge: the backlog takes longer, as the rest starts when these are ready"
        }
        Reason::Pinned => "pinned by an operator",
        Reason::Paused => "paused by an operator",
        Reason::UpOnly => "mode is up_only",
        Reason::DryRun => "mode is dry_run",
        Reason::Off => "mode is off",
        Reason::BackendLost => "a backend went away",
        Reason::OutsideChange => "someone else changed the size",
    };
    text.to_owned()
}
