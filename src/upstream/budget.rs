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
