//! What outcomes of tries mean for ejection: failures in a row, `Retry-After`, and the requests that try an
//! ejected backend again. The rules and the bookkeeping are `upstream::outlier`'s.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

use crate::clock::Micros;
use crate::upstream::outlier::rule::RETRY_AFTER_MAX;
use crate::upstream::outlier::{Back, Blow, Why};
use crate::worker::local::LocalService;

use super::attempt::Try;
use super::exchange::{Exchange, Held};

/// The backend answered, and not with a gateway failure.
#[inline]
pub fn succeeded(held: &mut Held, now: Micros) {
    held.backend.backend.outlier.succeeded();
    if std::mem::take(&mut held.probe) {
        let view = &held.service().view;
        let backend = &held.backend.backend;
        view.outliers.uneject(backend, Back::Probe, |_| true, view.config.slow_start, now);
    }
}

/// A gateway failure. `wait`: it answered 503 and asked to be left alone for so long.
pub fn failed(with: &Try<'_>, held: &mut Held, blow: Blow, wait: Option<Duration>, now: Micros) {
    let probe = std::mem::take(&mut held.probe);
    let view = &held.service().view;
    let backend = &held.backend.backend;
    let rules = &view.config.outlier;
    let failures = backend.outlier.failed(rules.consecutive_failures);
    let wait = wait.filter(|wait| !wait.is_zero()).map(|wait| Why::RetryAfter { wait });
    let rng = &mut *with.worker.rng.borrow_mut();
    if probe {
        let why = wait.unwrap_or(Why::Probe { last: blow });
        view.outliers.probe_failed(backend, why, rules, rng, now);
        return;
    }
    let in_a_row = failures.map(|failures| Why::Consecutive { failures, last: blow });
    if let Some(why) = wait.or(in_a_row) {
        let members = view.backends.iter().map(|member| &*member.backend);
        view.outliers.eject(backend, why, rules, members, rng, now);
    }
}

/// An ejected backend that this request is to try, if the time of one is over; its gate was entered. Backups are
/// tried while there is no one else. A client that belongs to a backend (by hash, or by `session`) is not sent
/// elsewhere for that: where all do, backends come back untried; where some do, if no other client came.
pub fn probe(
    exchange: &Exchange,
    service: &LocalService,
    session: bool,
    now: Micros,
) -> Option<usize> {
    let view = &service.view;
    let config = &view.config;
    let time = config.outlier.ejection_time;
    if config.binds_clients() || session {
        let patience = if session { time } else { Duration::ZERO };
        let backends = view.backends.iter().map(|m| &m.backend);
        view.outliers.release(backends, &config.outlier, patience, config.slow_start, now);
        return None;
    }
    // A request that may be sent again loses nothing if it fails. Others leave it to such for a while.
    let retry = &config.retry;
    let leaves = retry.attempts > 0 && !retry.methods.contains(exchange.method());
    let patience = if leaves { time } else { Duration::ZERO };
    let served = view.backends.iter().any(|m| !m.backup && m.backend.gate.is_available());
    let candidates = view.backends.iter().enumerate();
    let candidates = candidates
        .filter(|(_, m)| !m.backup || !served)
        .filter(|(_, m)| {
            config.max_in_flight == 0 || m.backend.gate.in_flight() < config.max_in_flight
        })
        .map(|(i, m)| (i, &m.backend));
    let found = view.outliers.probe(candidates, patience, time, now)?;
    // It may have begun to drain meanwhile.
    view.backends[found].backend.gate.enter_below(config.max_in_flight).then_some(found)
}

/// How long the backend asks to be left alone: seconds or a date (RFC 9110 §10.2.3), at most five minutes.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::time::UNIX_EPOCH;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_five_minutes_at_most() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let wait = |text: &'static str| {
            let headers = [(header::RETRY_AFTER, HeaderValue::from_static(text))];
            retry_after(&headers.into_iter().collect(), now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("86400"), Some(300));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:57 GMT"), Some(20));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:17 GMT"), Some(0), "it is past");
        assert_eq!(wait("Mon, 07 Nov 1994 08:49:37 GMT"), Some(300));
        assert_eq!(wait("99999999999999999999"), None);
        assert_eq!(wait("-1"), None);
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
