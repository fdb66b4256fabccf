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

/// What limits are learned from; counted while they are (`overload.concurrency = "adaptive"`).
#[derive(Debug, Default)]
pub struct Work {
    /// Requests answered well to the end, and the time that they took together, in µs.
    pub done: Counter,
    pub time: Counter,
    /// Those among them that found no company at the backend to wait for.
    pub low: Counter,
    pub low_time: Counter,
    /// Picks that found no company there, and those of them that got the head of an answer or ended without one.
    pub low_sent: Counter,
    pub low_back: Counter,
    /// Picks that found its limit nearly reached.
    pub near: Counter,
    /// Requests that it turned away: 503 and 429.
    pub rejected: Counter,
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
    pub work: Work,
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
