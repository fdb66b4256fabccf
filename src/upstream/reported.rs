//! Load that a backend reports of itself (`load_report`), as the last of its answers said.
//!
//! Who just began to report is not believed for ten seconds: a backend that starts has nothing to do yet, or is
//! busy with itself. Who was silent for three minutes begins anew. Both are Envoy's and gRFC A58's. All workers
//! write here; each word stands for itself.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::clock::Micros;

/// From its first report until it is believed, in µs.
const BLACKOUT: Micros = 10_000_000;
/// From its last report until it is forgotten, in µs.
const EXPIRY: Micros = 180_000_000;

/// The last report of one backend.
#[derive(Debug, Default)]
pub struct Reported {
    /// f32
    utilization: AtomicU32,
    /// µs of the last report; 0 = none yet.
    at: AtomicU64,
    /// µs of the first since it was last silent.
    since: AtomicU64,
}

/// What is believed of a backend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// 1 = all that it can do; more is possible.
    pub utilization: f32,
    /// In µs.
    pub age: Micros,
}

impl Reported {
    /// It said so just now.
    pub fn record(&self, utilization: f32, now: Micros) {
        let now = now.max(1);
        let last = self.at.swap(now, Relaxed);
        if last == 0 || now.saturating_sub(last) >= EXPIRY {
            self.since.store(now, Relaxed);
        }
        self.utilization.store(utilization.to_bits(), Relaxed);
    }

    /// What it said last, believed or not; `None` if that is too long ago.
    pub fn last(&self, now: Micros) -> Option<Load> {
        let at = self.at.load(Relaxed);
        let age = now.saturating_sub(at);
        let utilization = f32::from_bits(self.utilization.load(Relaxed));
        (at != 0 && age < EXPIRY).then_some(Load { utilization, age })
    }

    /// What it said last, if it is to be believed.
    #[inline]
    pub fn believed(&self, now: Micros) -> Option<Load> {
        self.last(now).filter(|_| now.saturating_sub(self.since.load(Relaxed)) >= BLACKOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    #[test]
    fn who_reports_is_believed_after_a_while_and_for_a_while() {
        let reported = Reported::default();
        assert_eq!(reported.last(SECOND), None);
        for second in 1..=20 {
            reported.record(0.5, second * SECOND);
            let load = Load { utilization: 0.5, age: 0 };
            assert_eq!(reported.last(second * SECOND), Some(load));
            let believed = reported.believed(second * SECOND);
            assert_eq!(believed, (second >= 11).then_some(load), "after {second} s");
        }
        let later = reported.believed(30 * SECOND);
        assert_eq!(later, Some(Load { utilization: 0.5, age: 10 * SECOND }));
        assert!(reported.believed(199 * SECOND).is_some());
        assert_eq!(reported.believed(200 * SECOND), None);
        // Then it begins anew.
        reported.record(0.7, 200 * SECOND);
        assert_eq!(reported.believed(209 * SECOND), None);
        assert!(reported.believed(210 * SECOND).is_some());
    }
}
