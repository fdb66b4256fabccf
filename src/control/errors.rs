//! Says what goes wrong with requests: a line of the log for each service that answers with errors
//! of tidegate's own, at most one in ten seconds.
//!
//! The workers only count. Whoever has no access log still reads how many requests failed, why, and
//! at which backend the last one did. The dark service (no backend at all) is told by `core`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Micros;
use crate::snapshot::ServiceView;
use crate::telemetry::counter::Label;
use crate::telemetry::{Cause, LastError, PerWorker, ServiceStats};

/// Between two lines about one service.
const SAY_EVERY: Micros = 10_000_000;

/// What was said of each service.
#[derive(Debug, Default)]
pub struct Errors(HashMap<Arc<str>, Said>);

#[derive(Debug, Default)]
struct Said {
    /// `None`: nothing yet.
    at: Option<Micros>,
    counts: [u64; Cause::COUNT],
}

impl Errors {
    /// Looks at all services; to be called once a second.
    pub fn tick(&mut self, services: &[Arc<ServiceView>], now: Micros) {
        self.0.retain(|name, _| services.iter().any(|service| service.config.name == *name));
        for service in services {
            let name = &service.config.name;
            let said = self.0.entry(name.clone()).or_default();
            let Some(mut line) = said.news(&service.stats, now) else { continue };
            if let Some(last) = last(&service.stats) {
                let mut members = service.backends.iter().map(|member| &member.backend);
                if let Some(backend) = members.find(|b| b.uid & 0xffff_ffff == last.uid) {
                    let after = last.after.as_secs_f64();
                    let cause = last.cause.as_str();
                    line.push_str(&format!("; last: {} {cause} after {after:.3} s", backend.id));
                }
            }
            tracing::warn!(service = &**name, "{line}");
        }
    }
}

impl Said {
    /// `3 requests failed: 2 connect, 1 reset`, if there is news and it is time to tell.
    fn news(&mut self, stats: &PerWorker<ServiceStats>, now: Micros) -> Option<String> {
        if self.at.is_some_and(|at| now < at + SAY_EVERY) {
            return None;
        }
        let mut total = 0;
        let mut parts = Vec::new();
        for &cause in Cause::ALL {
            let count = stats.sum(|s| s.errors.get(cause));
            let new = count.wrapping_sub(std::mem::replace(&mut self.counts[cause.index()], count));
            if new > 0 {
                total += new;
                parts.push(format!("{new} {}", cause.as_str()));
            }
        }
        (total > 0).then(|| {
            self.at = Some(now);
            let requests = if total == 1 { "request" } else { "requests" };
            format!("{total} {requests} failed: {}", parts.join(", "))
        })
    }
}

/// That of the worker with the most errors: which of them came last is not known.
fn last(stats: &PerWorker<ServiceStats>) -> Option<LastError> {
    let total = |s: &&ServiceStats| Cause::ALL.iter().map(|c| s.errors.get(*c)).sum::<u64>();
    stats.iter().max_by_key(total)?.last_error()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_has_what_is_new_and_comes_every_ten_seconds() {
        let stats = PerWorker::<ServiceStats>::new(2);
        let mut said = Said::default();
        assert_eq!(said.news(&stats, 0), None);
        stats.of(0).went_wrong(Cause::Connect, 7, Duration::from_millis(5));
        assert_eq!(said.news(&stats, 1_000_000).as_deref(), Some("1 request failed: 1 connect"));
        stats.of(0).went_wrong(Cause::Connect, 7, Duration::ZERO);
        stats.of(1).went_wrong(Cause::Reset, 8, Duration::ZERO);
        assert_eq!(said.news(&stats, 10_999_999), None, "too early");
        let line = said.news(&stats, 11_000_000);
        assert_eq!(line.as_deref(), Some("2 requests failed: 1 connect, 1 reset"));
        assert_eq!(said.news(&stats, 30_000_000), None, "nothing new");
        let last = last(&stats).expect("there was one");
        assert_eq!((last.cause, last.uid, last.after), (Cause::Connect, 7, Duration::ZERO));
    }
}
