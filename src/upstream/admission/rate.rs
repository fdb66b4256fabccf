//! The rate at which requests are let in: the generic cell rate algorithm (ITU-T I.371) in one word, whose interval
//! changes while it runs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clock::Micros;
use crate::config::types::Priority;

/// What may come at once: so much time's worth, and at least so many requests.
const TOLERANCE_NS: u64 = 75_000_000;
const TOLERANCE: u64 = 5;

/// See the module. Times in ns.
#[derive(Debug, Default)]
pub struct Rate {
    /// Between requests; 0: no limit.
    interval: AtomicU64,
    /// Theoretical arrival time of the next.
    next: AtomicU64,
}

impl Rate {
    /// Requests a second.
    pub fn get(&self) -> f64 {
        match self.interval.load(Relaxed) {
            0 => f64::INFINITY,
            interval => 1e9 / interval as f64,
        }
    }

    /// Requests a second; infinite: no limit.
    pub fn set(&self, rate: f64) {
        let interval = if rate.is_finite() { (1e9 / rate.max(1e-3)) as u64 } else { 0 };
        self.interval.store(interval, Relaxed);
    }

    /// Whether a request is within it, which is counted then. A critical one is counted and always within, and
    /// so is a normal one of a client that has less than its share (`modest`).
    pub fn admits(&self, class: Priority, modest: bool, now: Micros) -> bool {
        let interval = self.interval.load(Relaxed);
        if interval == 0 {
            return true;
        }
        let now = now.saturating_mul(1000);
        let tolerance = TOLERANCE_NS.max(TOLERANCE * interval);
        // How far ahead of its time one may come; the rest is kept for those who go before it.
        let ahead = match (class, modest) {
            // Those of clients that have little are bounded by that.
            (Priority::Critical, _) | (Priority::Normal, true) => u64::MAX,
            (Priority::Normal, false) | (Priority::Sheddable, true) => tolerance / 10 * 7,
            (Priority::Sheddable, false) => tolerance / 10 * 4,
        };
        let mut next = self.next.load(Relaxed);
        loop {
            if next.saturating_sub(now) > ahead {
                return false;
            }
            // Critical ones are not to pile up a debt that keeps all others out for longer than this.
            let then = (next.max(now) + interval).min(now + 2 * tolerance);
            match self.next.compare_exchange_weak(next, then, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(seen) => next = seen,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(rate: f64) -> Rate {
        let limit = Rate::default();
        limit.set(rate);
        limit
    }

    #[test]
    fn without_a_rate_everything_is_let_in() {
        let rate = of(f64::INFINITY);
        assert!((0..1000).all(|_| rate.admits(Priority::Sheddable, false, 5)));
        assert_eq!(rate.get(), f64::INFINITY);
    }

    #[test]
    fn lower_classes_are_refused_earlier() {
        let fill = |class| {
            let rate = of(1000.0);
            (0..1000).filter(|_| rate.admits(class, false, 1)).count()
        };
        // 75 ms of 1 ms each: .4 and .7 of them, and the one that is due.
        assert_eq!([Priority::Sheddable, Priority::Normal].map(fill), [31, 53]);
        assert_eq!(fill(Priority::Critical), 1000);
    }

    #[test]
    fn what_one_class_left_the_next_may_take() {
        let rate = of(1000.0);
        let take = |class| (0..1000).filter(|_| rate.admits(class, false, 1)).count();
        assert_eq!((take(Priority::Sheddable), take(Priority::Normal)), (31, 22));
        assert!(rate.admits(Priority::Critical, false, 1));
    }

    #[test]
    fn critical_ones_keep_others_out_for_a_moment_only() {
        let rate = of(1000.0);
        assert!((0..100_000).all(|_| rate.admits(Priority::Critical, false, 1)));
        assert!(!rate.admits(Priority::Normal, false, 1));
        assert!(rate.admits(Priority::Normal, false, 1 + 150_000));
    }

    proptest! {
        /// In any span no more than the rate and what may come at once.
        #[test]
        fn never_more_than_burst_and_rate(
            per_second in 1.0_f64..100_000.0,
            gaps in prop::collection::vec(0_u64..20_000, 1..400),
        ) {
            let rate = of(per_second);
            let interval = (1e9 / per_second) as u64;
            let burst = (TOLERANCE_NS.max(TOLERANCE * interval) / 10 * 7 / interval + 1) as f64;
            let (mut now, mut let_in) = (1_000_000, Vec::new());
            for gap in gaps {
                now += gap;
                if rate.admits(Priority::Normal, false, now) {
                    let_in.push(now);
                }
            }
            for (i, from) in let_in.iter().enumerate() {
                for (j, to) in let_in.iter().enumerate().skip(i) {
                    let span = (to - from) as f64 / 1e6;
                    let most = burst + span * 1e9 / interval as f64 + 1.0;
                    prop_assert!((j - i + 1) as f64 <= most, "{} in {span} s", j - i + 1);
                }
            }
        }
    }
}
