//! What a failure means: for the backend's record, for the next try, for the client.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::clock::Micros;
use crate::config::types::RetryOn;
use crate::http::fault::{Busy, ConnectKind, Fault, NotHeld};
use crate::http::host::HostError;
use crate::route::path::PathError;
use crate::telemetry::counter::Label;
use crate::telemetry::{Cause, ConnectError, Failure, Flood, ServiceStats, ShedReason};
use crate::upstream::admission::Refused;
use crate::upstream::outlier::Blow;
use crate::worker::local::LocalService;

use super::attempt::{Try, Unanswered};
use super::ejection;
use super::exchange::{Exchange, Held};

/// Whether the configuration wants another try after this.
pub fn may_retry(on: &RetryOn, why: &Unanswered) -> bool {
    match why {
        Unanswered::NotConnected(ConnectKind::Local) => false,
        Unanswered::NotConnected(ConnectKind::Refused) => on.connect || on.refused,
        Unanswered::NotConnected(_) => on.connect,
        Unanswered::Refused => on.connect || on.refused,
        Unanswered::Reset | Unanswered::BadAnswer => on.reset,
        Unanswered::TimedOut => on.timeout,
        Unanswered::Status(status) => on.statuses.contains(status),
        Unanswered::Client => false,
    }
}

/// Takes the head of an answer into the backend's record: its latency, or a failure.
pub fn judge(
    with: &Try<'_>,
    held: &mut Held,
    (status, headers): (StatusCode, &HeaderMap),
    took: u64,
    now: Micros,
) {
    let backend = &held.backend.backend;
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            held.stats().failed(Failure::Status, now);
            if status == StatusCode::SERVICE_UNAVAILABLE {
                held.stats().work.rejected.inc();
            }
            let wall = with.worker.clock.wall(now);
            let after = ejection::retry_after(headers, wall);
            backend.latency.fail(now, after);
            held.service().view.peers.failed(&backend.learned, took, now);
            let after = after.filter(|_| status == StatusCode::SERVICE_UNAVAILABLE);
            ejection::failed(with, held, Blow::Status(status.as_u16()), after, now);
        }
        _ => {
            if status == StatusCode::TOO_MANY_REQUESTS {
                held.stats().work.rejected.inc();
            }
            backend.latency.record(took as f32, now);
            held.service().view.peers.answered(&backend.learned, held.worker(), took, now);
            ejection::succeeded(held, now);
        }
    }
}

/// A try was given up because another backend answered the same request first; the backend has not failed.
pub fn outlasted(held: &Held, now: Micros) {
    let backend = &held.backend.backend;
    let took = now.saturating_sub(held.since);
    backend.latency.record(took as f32, now);
    held.service().view.peers.outlasted(&backend.learned, held.worker(), took, now);
}

/// A try failed after it was sent, or the wait for a connection did.
pub fn failed(with: &Try<'_>, held: &mut Held, now: Micros, failure: Failure, blow: Blow) {
    held.stats().failed(failure, now);
    let backend = &held.backend.backend;
    backend.latency.fail(now, None);
    let took = now.saturating_sub(held.since);
    held.service().view.peers.failed(&backend.learned, took, now);
    ejection::failed(with, held, blow, None, now);
}

/// Whether the backend is to blame that the route's time is over, which it has had since `since`: it had more of
/// it than 99 of 100 answers take; while that is not known, more than half. So neither what is cut just after it was
/// sent on (by a retry, after a slow upload) counts, nor does a backend that swallows requests stay unseen
/// behind a route's timeout shorter than its own ones. One in a hundred is blamed unjustly, but never five
/// in a row.
pub fn is_to_blame(with: &Try<'_>, held: &Held, since: Micros, now: Micros) -> bool {
    let had = now.saturating_sub(since);
    match held.service().view.peers.usual() {
        Some(p99) => had > p99,
        None => had * 2 > now.saturating_sub(with.started),
    }
}

/// No connection came about.
pub fn connect_failed(with: &Try<'_>, held: &mut Held, now: Micros, kind: ConnectKind) {
    let stats = held.service().view.stats.of(held.worker());
    stats.connect_errors.inc(match kind {
        ConnectKind::Refused => ConnectError::Refused,
        ConnectKind::TimedOut => ConnectError::Timeout,
        ConnectKind::Unreachable => ConnectError::Unreachable,
        ConnectKind::Reset => ConnectError::Reset,
        ConnectKind::Certificate | ConnectKind::Tls => ConnectError::Tls,
        ConnectKind::Local | ConnectKind::Other => ConnectError::Other,
    });
    let blow = match kind {
        ConnectKind::Local => return,
        ConnectKind::Refused => Blow::Refused,
        ConnectKind::TimedOut => Blow::ConnectTimeout,
        ConnectKind::Unreachable => Blow::Unreachable,
        ConnectKind::Reset => Blow::Reset,
        ConnectKind::Certificate | ConnectKind::Tls | ConnectKind::Other => Blow::Connect,
    };
    failed(with, held, now, Failure::Connect, blow);
}

/// Nobody could be picked.
pub fn no_backend(service: &LocalService) -> Fault {
    let members = &service.view.backends;
    let healthy = members.iter().filter(|m| m.backend.gate.is_available()).count();
    if healthy > 0 && super::waiting::is_limited(service) {
        let why = Busy::Full { waiting: service.view.queue.depth() };
        return Fault::Overloaded { service: service.view.config.name.clone(), why };
    }
    let mut last: Option<(Micros, Failure)> = None;
    for stats in members.iter().flat_map(|m| m.backend.stats.iter()) {
        let failure = stats.last_failure();
        if failure.map(|(at, _)| at) > last.map(|(at, _)| at) {
            last = failure;
        }
    }
    Fault::NoBackend {
        service: service.view.config.name.clone(),
        healthy: healthy as u32,
        total: members.len() as u32,
        last: last.map(|(_, failure)| describe(failure).into()),
    }
}

fn describe(failure: Failure) -> &'static str {
    match failure {
        Failure::Connect => "no connection",
        Failure::Reset => "connection broken",
        Failure::Timeout => "timed out",
        Failure::Protocol => "not valid HTTP",
        Failure::Status => "answered 502, 503 or 504",
    }
}

/// How long a client should wait before it asks again.
pub fn retry_after(fault: &Fault) -> Option<Duration> {
    const SOON: Duration = Duration::from_secs(1);
    match fault {
        Fault::NoBackend { .. } | Fault::Overloaded { .. } | Fault::RouteFull { .. } => Some(SOON),
        Fault::RateLimited { wait, .. } => Some(*wait),
        Fault::Banned { left, .. } => Some(*left),
        Fault::NotHeld { lead, .. } => Some(lead.unwrap_or(SOON)),
        _ => None,
    }
}

impl From<HostError> for Fault {
    fn from(error: HostError) -> Self {
        Self::BadRequest(match error {
            HostError::Missing => "the request has no Host",
            HostError::Duplicate => "the request has more than one Host",
            HostError::Invalid => "the Host is not valid",
            HostError::Mismatch => "the Host differs from the authority",
        })
    }
}

impl From<PathError> for Fault {
    fn from(error: PathError) -> Self {
        Self::BadRequest(match error {
            PathError::EscapedSlash => "the path contains an escaped slash",
            PathError::Backslash => "the path contains a backslash",
            PathError::Nul => "the path contains a NUL",
            PathError::BrokenEscape => "the path contains a broken escape",
            PathError::NotAbsolute => "the path does not begin with a slash",
            PathError::Rewritten => "the rewritten path is not valid",
        })
    }
}

/// Counts an answer of our own by its cause.
pub fn record(fault: &Fault, exchange: &mut Exchange) {
    if matches!(fault, Fault::RequestTimeout) {
        exchange.client.floods(Flood::SlowBody);
    }
    let Some(cause) = cause(fault) else {
        if let Some(logged) = &mut exchange.logged {
            logged.error = refusal(fault);
        }
        return;
    };
    if let Some(logged) = &mut exchange.logged {
        logged.error = Some(cause.as_str());
        logged.at = fault.at().map(|(at, phase)| (at.clone(), phase));
    }
    if let Some(in_flight) = exchange.in_flight() {
        count(fault, in_flight.stats());
    }
}

/// What a service's statistics have of it.
pub fn count(fault: &Fault, stats: &ServiceStats) {
    let Some(cause) = cause(fault) else { return };
    let (uid, after) = fault.at().map_or((0, Duration::ZERO), |(at, _)| (at.uid, at.after));
    stats.went_wrong(cause, uid, after);
    stats.shed.inc(match fault {
        Fault::NoBackend { .. } => ShedReason::NoBackend,
        Fault::RouteFull { .. } => ShedReason::RouteLimit,
        Fault::Overloaded { why: Busy::Full { .. }, .. } => ShedReason::QueueFull,
        Fault::Overloaded { why: Busy::Waited { .. }, .. } => ShedReason::QueueTimeout,
        Fault::Overloaded { why: Busy::Refused(why), .. } => match why {
            Refused::Rate => ShedReason::Rate,
            Refused::Share { .. } => ShedReason::Share,
            Refused::Throttled => ShedReason::Throttled,
            Refused::Memory => ShedReason::Memory,
        },
        Fault::NotHeld { why, .. } => match why {
            NotHeld::Ignored | NotHeld::Failed { .. } => ShedReason::NoBackend,
            NotHeld::Page => ShedReason::Starting,
            NotHeld::Full { .. } | NotHeld::PerClient { .. } => ShedReason::QueueFull,
            NotHeld::Waited { .. } => ShedReason::QueueTimeout,
        },
        _ => return,
    });
}

/// What the access log says where the client was refused by the route's rules.
fn refusal(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::Denied => Some("access_denied"),
        Fault::RateLimited { .. } => Some("rate_limited"),
        Fault::Banned { .. } => Some("banned"),
        _ => None,
    }
}

/// `None`: the client's doing.
fn cause(fault: &Fault) -> Option<Cause> {
    Some(match fault {
        Fault::NoBackend { .. } | Fault::NotHeld { .. } => Cause::NoBackend,
        Fault::Connect { kind: ConnectKind::TimedOut, .. } => Cause::ConnectTimeout,
        Fault::Connect { .. } => Cause::Connect,
        Fault::Reset { .. } => Cause::Reset,
        Fault::BadAnswer { .. } => Cause::Protocol,
        Fault::ResponseTimeout { .. } | Fault::WriteTimeout { .. } => Cause::ResponseTimeout,
        Fault::RouteTimeout { .. } | Fault::QueueRouteTimeout { .. } => Cause::RouteTimeout,
        Fault::Overloaded { .. } | Fault::RouteFull { .. } => Cause::Overload,
        Fault::Internal => Cause::Internal,
        _ => return None,
    })
}
