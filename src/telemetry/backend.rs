//! Counters of one backend: requests, failures by kind, latency. In-flight is the gate's.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clock::Micros;

use super::counter::{By, Counter, Label, labels};
use super::histogram::Histogram;

labels! {
    /// How a try on a backend failed. A client that goes away is none of these.
    Failure {
        Connect = "connect",
        Reset = "reset",
        Timeout = "timeout",
        /// Broken HTTP.
        Protocol = "protocol",
        /// A 5xx status received.
        Status = "status",
    }
}

/// Counters of one backend (per worker).
#[derive(Debug, Default)]
pub struct BackendStats {
    /// Tries sent to it, retries included.
    pub requests: Counter,
    pub failures: By<Failure, { Failure::COUNT }>,
    /// From sending the request to the head of the answer.
    pub ttfb: Histogram,
    /// From sending the request to the end of the answer.
    pub duration: Histogram,
    /// Time in µs (56 bits) and kind (8 bits) of the last failure; 0 = none.
    last_failure: AtomicU64,
}

impl BackendStats {
    /// Counts a failed try.
    pub fn failed(&self, kind: Failure, now: Micros) {
        self.failures.inc(kind);
        self.last_failure.store(now.max(1) << 8 | kind.index() as u64, Relaxed);
    }

    /// When and how the last try failed.
    pub fn last_failure(&self) -> Option<(Micros, Failure)> {
        let word = self.last_failure.load(Relaxed);
        (word != 0).then(|| (word >> 8, Failure::ALL[(word & 0xff) as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_failure() {
        let stats = BackendStats::default();
        assert_eq!(stats.last_failure(), None);
        stats.failed(Failure::Connect, 0);
        assert_eq!(stats.last_failure(), Some((1, Failure::Connect)));
        stats.failed(Failure::Status, 7_000_000);
        assert_eq!(stats.last_failure(), Some((7_000_000, Failure::Status)));
        assert_eq!(stats.failures.total(), 2);
    }
}
