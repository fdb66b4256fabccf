//! What happened, as one line for a person: on the terminal, in the log, in a hook's message.

use std::fmt::Write as _;
use std::time::Duration;

use crate::config::types::Address;

use super::{BanStep, DrainStep, Kind, PressureStep, Step};

impl Kind {
    /// One line for a person, without time and service.
    pub fn line(&self) -> String {
        match self {
            Self::BackendState { backend, address, state, after_ms, ramp_ms, reason } => {
                let mut line = format!("backend {} {state}", place(backend, address.as_ref()));
                if let Some(after) = after_ms {
                    let _ = write!(line, " after {}", seconds(*after));
                }
                if let Some(ramp) = ramp_ms {
                    let _ = write!(line, ", ramping for {}", seconds(*ramp));
                }
                if let Some(reason) = reason {
                    let _ = write!(line, ": {reason}");
                }
                line
            }
            Self::Drain { backend, address, step, by, in_flight, tunnels } => {
                let place = place(backend, address.as_ref());
                match step {
                    DrainStep::Begun => format!("draining {place} ({by}), {in_flight} in flight"),
                    DrainStep::Undone => format!("{place} takes requests again ({by})"),
                    DrainStep::Idle => format!("{place} idle"),
                    DrainStep::Forced => format!(
                        "{place} drained by force at its limit, {in_flight} requests and \
                         {tunnels} upgraded connections cut"
                    ),
                }
            }
            Self::BackendEjected { backend, address, why, for_ms, .. } => {
                let place = place(backend, address.as_ref());
                format!("backend {place} ejected for {}: {why}", seconds(*for_ms))
            }
            Self::BackendUnejected { backend, address, why, ramp_ms } => {
                let mut line = format!("backend {} is back", place(backend, address.as_ref()));
                if let Some(ramp) = ramp_ms {
                    let _ = write!(line, ", ramping for {}", seconds(*ramp));
                }
                let _ = write!(line, ": {why}");
                line
            }
            Self::Crash { backend, address, cause } => {
                format!("backend {} ended by itself: {cause}", place(backend, address.as_ref()))
            }
            Self::Scaled { from, to, reason, .. } => {
                let sign = if to >= from { '+' } else { '−' };
                format!("{sign}{} → {to}  {reason}", to.abs_diff(*from))
            }
            Self::Replaced { lost, size, .. } => {
                format!("{lost} lost, replaced; {size} are wanted")
            }
            Self::Healing { reason, .. } => reason.clone(),
            Self::ScaleBlocked { reason, .. } => format!("scaling is held back: {reason}"),
            Self::NoHealthyBackends { reason } => format!("no healthy backend: {reason}"),
            Self::Discovered { source, backends, joined, left } => {
                format!("{source}: {backends} backends, {joined} new, {left} gone")
            }
            Self::DiscoveryFailed { source, error } => format!("{source}: {error}"),
            Self::OrchestratorFailed { operation, error } => {
                format!("orchestrator: {operation} failed: {error}")
            }
            Self::Flood { listener, flood, step, ended, lasted_ms } => {
                format!(
                    "listener {listener}: {flood} {}",
                    course(*step, "ended", *ended, *lasted_ms)
                )
            }
            Self::RequestFlood { route, limit, step, refused, lasted_ms } => {
                let course = course(*step, "refused", *refused, *lasted_ms);
                format!("route {route}: request flood over {limit} {course}")
            }
            Self::Shed { step, shed, lasted_ms } => {
                format!("overload {}", course(*step, "shed", *shed, *lasted_ms))
            }
            Self::SharedLimits { away: true, why } => {
                format!("shared limits are counted here alone: redis: {why}")
            }
            Self::SharedLimits { .. } => "shared limits are counted together again".to_owned(),
            Self::Ban { address, step, route, limit, for_ms, more } => {
                let lasts = seconds(*for_ms);
                let others = match more {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                match step {
                    BanStep::Begun => {
                        format!("{address} is banned for {lasts} by {limit} of {route}{others}")
                    }
                    BanStep::Ended => format!("{address} is let in again after {lasts}{others}"),
                    BanStep::Lifted => format!("the ban of {address} is lifted{others}"),
                }
            }
            Self::MemoryPressure { step, level, bytes, limit_bytes, peak_bytes, refused } => {
                let used = format!("{} of {} memory in use", mib(*bytes), mib(*limit_bytes));
                match step {
                    PressureStep::Ended => format!(
                        "{used}, at most {}: nothing is refused for it any more; {refused} requests were",
                        mib(*peak_bytes)
                    ),
                    PressureStep::Begun | PressureStep::Worse => {
                        format!("{used} (max_memory): {}", refuses(level))
                    }
                }
            }
            Self::Reload { generation, restart_required } if restart_required.is_empty() => {
                format!("configuration reloaded (generation {generation})")
            }
            Self::Reload { generation, restart_required } => format!(
                "configuration reloaded (generation {generation}); a restart is needed for {}",
                restart_required.join(", ")
            ),
            Self::ReloadFailed { errors } => {
                format!("reload failed, nothing changed: {}", errors.join("; "))
            }
            Self::Operator { order } => format!("operator: {order}"),
            Self::Certificate { file, names, days } => {
                let names = names.join(", ");
                match days {
                    ..0 => format!("the certificate of {names} is not valid any more ({file})"),
                    0 => format!("the certificate of {names} ends within a day ({file})"),
                    days => format!("the certificate of {names} ends in {days} days ({file})"),
                }
            }
            Self::Stopping { signal } => format!("stopping ({signal})"),
            Self::HandedOver { pid, took_ms } => format!(
                "handed over to process {pid} within {}; finishing what runs",
                seconds(*took_ms)
            ),
            Self::HandoverFailed { error } => {
                format!("not handed over, everything goes on as before: {error}")
            }
        }
    }
}

/// `begun: 3 ended`, `goes on: 400 refused within 60 s`, `is over: 423 shed within 71 s`.
fn course(step: Step, what: &str, count: u64, lasted_ms: u64) -> String {
    let lasted = seconds(lasted_ms.max(1000));
    match step {
        Step::Begun => format!("begun: {count} {what}"),
        Step::GoesOn => format!("goes on: {count} {what} within {lasted}"),
        Step::Ended => format!("is over: {count} {what} within {lasted}"),
    }
}

/// `0.31 s`, `30 s`: two significant digits are enough for a line.
pub fn seconds(ms: u64) -> String {
    let s = Duration::from_millis(ms).as_secs_f64();
    if s < 10.0 && !ms.is_multiple_of(1000) { format!("{s:.2} s") } else { format!("{s:.0} s") }
}

/// What is refused at a level of [`crate::memory`].
fn refuses(level: &str) -> &'static str {
    match level {
        "over" => "every request is refused, and new connections wait",
        "full" => "new connections wait, and only critical requests are let in",
        "critical" => "only critical requests are let in",
        _ => "sheddable requests are refused",
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

fn place(id: &str, address: Option<&Address>) -> String {
    address.map_or_else(|| id.to_owned(), |address| address.to_string())
}
