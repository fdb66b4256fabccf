//! The retry budget of a service: retries are a share of requests, so that they cannot multiply an outage.
//!
//! Over the last 10 seconds, retries may be at most `ratio` × requests + `min` × 10 (Finagle's
//! `RetryBudget`: percentCanRetry, minRetriesPerSec, ttl). One budget for all workers, without a lock:
//! a ring of one-second slots, each one word that holds its second, its requests and its retries.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clock::Micros;

/// Seconds that count.
const WINDOW: u64 = 10;
/// One more than the window, so that the slot being reset is never one that counts.
const SLOTS: usize = WINDOW as usize + 1;

/// Shared by all workers; lives through reloads.
#[derive(Debug, Default)]
pub struct RetryBudget {
    slots: [AtomicU64; SLOTS],
}

impl RetryBudget {
    /// Counts a request (not its retries).
    #[inline]
    pub fn request(&self, now: Micros) {
        let second = now / 1_000_000;
        let slot = &self.slots[(second % SLOTS as u64) as usize];
        let mut word = slot.load(Relaxed);
        loop {
            let Slot { requests, retries } = Slot::at(word, second);
            let next = Slot { requests: (requests + 1).min(Slot::MAX), retries }.pack(second);
            match slot.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }

    /// Takes one retry. False: over budget, nothing was taken. `ratio` (0..=1) and `min` (per second)
    /// are passed in because they may change with a reload while the counts stay.
    pub fn withdraw(&self, now: Micros, ratio: f64, min: u32) -> bool {
        let second = now / 1_000_000;
        let slot = &self.slots[(second % SLOTS as u64) as usize];
        loop {
            let word = slot.load(Relaxed);
            let here = Slot::at(word, second);
            let (mut requests, mut retries) = (here.requests, here.retries);
            for earlier in second.saturating_sub(WINDOW - 1)..second {
                let past =
                    Slot::at(self.slots[(earlier % SLOTS as u64) as usize].load(Relaxed), earlier);
                requests += past.requests;
                retries += past.retries;
            }
            let allowed = requests as f64 * ratio + (u64::from(min) * WINDOW) as f64;
            if (retries + 1) as f64 > allowed || here.retries == Slot::MAX {
                return false;
            }
            // Retries of one second meet in one word, so two workers cannot take the same last one.
            let next = Slot { retries: here.retries + 1, ..here }.pack(second);
            if slot.compare_exchange_weak(word, next, Relaxed, Relaxed).is_ok() {
                return true;
            }
        }
    }
}

/// Second (24 bits, modulo), requests (20), retries (20).
struct Slot {
    requests: u64,
    retries: u64,
}

impl Slot {
    const MAX: u64 = (1 << 20) - 1;

    fn at(word: u64, second: u64) -> Self {
        if word >> 40 != Self::tag(second) {
            return Self { requests: 0, retries: 0 };
        }
        Self { requests: word >> 20 & Self::MAX, retries: word & Self::MAX }
    }

    fn pack(self, second: u64) -> u64 {
        Self::tag(second) << 40 | self.requests << 20 | self.retries
    }

    fn tag(second: u64) -> u64 {
        second & 0xff_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Micros = 1_000_000;

    fn taken(budget: &RetryBudget, now: Micros, ratio: f64, min: u32) -> u32 {
        (0..100_000).take_while(|_| budget.withdraw(now, ratio, min)).count() as u32
    }

    #[test]
    fn gives_the_share_and_the_minimum_and_forgets_after_ten_seconds() {
        let budget = RetryBudget::default();
        assert_eq!(taken(&budget, 0, 0.2, 0), 0);
        (0..100).for_each(|_| budget.request(0));
        assert_eq!(taken(&budget, 9 * SECOND, 0.2, 3), 20 + 30);
        // The requests have left the window, the retries have not.
        assert_eq!(taken(&budget, 10 * SECOND, 0.2, 3), 0);
        assert_eq!(taken(&budget, 19 * SECOND, 0.2, 3), 30);
        assert_eq!(taken(&budget, 1_000 * SECOND, 0.2, 0), 0);
    }

    #[test]
    fn one_budget_for_all_threads() {
        let budget = RetryBudget::default();
        (0..1000).for_each(|_| budget.request(0));
        let total: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| taken(&budget, 0, 0.2, 0))).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).sum()
        });
        assert_eq!(total, 200);
    }

    proptest! {
        /// In every window of ten seconds, retries never exceed what its requests and the minimum allow.
        #[test]
        fn never_over_budget(
            seconds in prop::collection::vec((0_u32..50, 0_u32..50), 1..60),
            ratio in 0.0..1.0,
            min in 0_u32..5,
        ) {
            let budget = RetryBudget::default();
            let mut retries = Vec::new();
            for (i, (requests, wanted)) in seconds.iter().enumerate() {
                let now = i as u64 * SECOND + 7;
                (0..*requests).for_each(|_| budget.request(now));
                let got = (0..*wanted).filter(|_| budget.withdraw(now, ratio, min)).count();
                retries.push(got as f64);
                let from = (i + 1).saturating_sub(WINDOW as usize);
                let requests: u32 = seconds[from..=i].iter().map(|s| s.0).sum();
                let allowed = f64::from(requests) * ratio + f64::from(min) * 10.0;
                let sum: f64 = retries[from..].iter().sum();
                // What was granted in time stays granted when its requests leave the window.
                prop_assert!(got == 0 || sum <= allowed, "{sum} > {allowed}");
                prop_assert!(got as u32 == *wanted || sum + 1.0 > allowed, "{sum} < {allowed}");
            }
        }
    }
}
