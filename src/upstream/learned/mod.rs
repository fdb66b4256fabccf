//! What `adaptive` learns of each backend: how slow it is, how often it fails, when to try it again.
//!
//! A backend whose factor is above [`BAND`] is *suspect*. It gets little or nothing by its cost alone, so it is
//! tried again on a schedule, one request at a time: a *probe*. A good probe makes the next one due at once,
//! which lets its estimate recover in serial requests; a bad one makes the wait longer. The numbers are
//! [`rule`]'s, what backends are measured against is kept in [`Peers`], and who is picked is `balance`'s.
//!
//! **Races.** All workers and the control plane write here, without locks and with relaxed atomics only: every
//! word stands for itself, no other memory is published through any of them, and a pick that sees a value a
//! moment late is as good as one that came a moment earlier. An outcome first swaps `age`, the word that
//! every outcome changes; who loses that race drops his sample. The winner stores the other words. Should
//! he be so slow that the next outcome overtakes him there, one sample is lost, and each word is one that
//! somebody meant. The one thing that must happen once, taking a due probe, is a compare-exchange.

mod peers;
pub mod rule;
#[cfg(test)]
mod tests;

pub use peers::{Observer, Peers};
pub use rule::BAND;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::clock::Micros;
use rule::Latency;

/// From suspicion to the first probe, and for a probe to come back; doubled with each bad one. In ms.
const PROBE_FIRST: u32 = 4_000;
/// Longest wait of a backend that is only somewhat slow (factor under 4), and shortest bound of others, in ms.
const PROBE_MILD: u32 = 15_000;
/// Longest wait of all, in ms.
const PROBE_LAST: u32 = 120_000;
/// Above the mild bound, probes are to be this share of the requests at most.
const PROBE_EVERY: f32 = 3_000.0;
/// A check that passes says little of a backend that passed all along while it was slow or failing: it is
/// heeded this long after the last probe. In ms.
const PASS_HEEDED: u32 = 30_000;
/// A failure that took longer counts as slow, too, in µs.
const SLOW_FAILURE: Micros = 1_000_000;
/// As so slow, in µs.
const SLOW_FAILURE_AS: f32 = 5_000_000.0;

/// What is known of one backend, by all workers together.
#[derive(Debug)]
pub struct Learned {
    /// All that a pick reads: the factor as f32, and when the next probe is due in ms (0 = not suspect).
    standing: AtomicU64,
    /// Time of the last outcome in ms, [`Latency`]'s weight (24 bits) and samples (8 bits); 0 = none yet.
    age: AtomicU64,
    /// [`Latency`]'s mean and variance as f32.
    latency: AtomicU64,
    /// µs of the last two answers as f32, the last in the upper half.
    last_two: AtomicU64,
    /// Share of failures as f32, and how many came in a row.
    failures: AtomicU64,
    /// f32: against the median, as the last look at all found it.
    slowness: AtomicU32,
    /// When the last probe was sent in ms, and [`PROBING`], [`CHECK_FAILED`] and how many were bad.
    probe: AtomicU64,
}

/// A probe is under way.
const PROBING: u64 = 1 << 8;
/// An active check failed since the last that passed.
const CHECK_FAILED: u64 = 1 << 9;
const BAD_PROBES: u64 = 0xff;

/// How a backend stands at a pick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// At least 1; multiplies its load.
    pub factor: f32,
    /// In ms; 0 = not suspect.
    probe_at: u32,
}

impl Standing {
    /// A probe may be sent if nothing is in flight: see [`Learned::claim`].
    #[inline]
    pub fn is_due(self, now: Micros) -> bool {
        self.factor > BAND && self.probe_at != 0 && is_past(self.probe_at, millis(now))
    }
}

impl Default for Learned {
    fn default() -> Self {
        let standing = Standing { factor: 1.0, probe_at: 0 };
        Self {
            standing: AtomicU64::new(standing.pack()),
            age: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            last_two: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            slowness: AtomicU32::new(1.0_f32.to_bits()),
            probe: AtomicU64::new(0),
        }
    }
}

impl Learned {
    #[inline]
    pub fn standing(&self) -> Standing {
        Standing::unpack(self.standing.load(Relaxed))
    }

    /// Takes a due probe, so that nobody else does: the request that is sent now is it. False: it was taken
    /// or the standing changed; `seen` does not hold any more.
    pub fn claim(&self, seen: Standing, now: Micros) -> bool {
        let now = millis(now);
        // If nothing comes back, which a client that goes away may cause, another follows.
        let next = Standing { probe_at: after(now, PROBE_FIRST), ..seen };
        if self.standing.compare_exchange(seen.pack(), next.pack(), Relaxed, Relaxed).is_err() {
            return false;
        }
        let flags = self.probe.load(Relaxed) & (BAD_PROBES | CHECK_FAILED);
        self.probe.store(u64::from(now) << 32 | PROBING | flags, Relaxed);
        true
    }

    /// An active check passed: if it is suspect, the next probe is due. Only a recovery is news, though. While
    /// checks pass all along, they do not measure what requests meet.
    pub fn check_passed(&self, now: Micros) {
        let now = millis(now);
        let probe = self.probe.fetch_and(!CHECK_FAILED, Relaxed);
        let seen = self.standing();
        let waited = now.wrapping_sub((probe >> 32) as u32) >= PASS_HEEDED;
        let heeded = probe & CHECK_FAILED != 0 || probe & BAD_PROBES == 0 || waited;
        if seen.probe_at != 0 && heeded && !is_past(seen.probe_at, now) {
            let next = Standing { probe_at: now, ..seen };
            let _ = self.standing.compare_exchange(seen.pack(), next.pack(), Relaxed, Relaxed);
        }
    }

    /// An active check failed.
    pub fn check_failed(&self) {
        self.probe.fetch_or(CHECK_FAILED, Relaxed);
    }

    /// It was ejected and is back: if it is suspect, the next probe is due.
    pub fn is_back(&self, now: Micros) {
        let seen = self.standing();
        if seen.probe_at != 0 {
            self.forget_probes();
            let next = Standing { probe_at: millis(now), ..seen };
            let _ = self.standing.compare_exchange(seen.pack(), next.pack(), Relaxed, Relaxed);
        }
    }

    /// Takes in how a request ended, `took` after it was sent.
    fn outcome(&self, failed: bool, took: Micros, now: Micros, peers: &Peers) {
        let now = millis(now);
        let age = self.age.load(Relaxed);
        // Before the first there is nothing to be out of date.
        let idle_ms = if age == 0 { 0 } else { since((age >> 32) as u32, now) };
        let is_probe = self.probe.load(Relaxed) & PROBING != 0;
        let mut latency = unpack_latency(age, self.latency.load(Relaxed));
        if !failed {
            latency = latency.with(took, idle_ms, is_probe);
        }
        if self.age.compare_exchange(age, pack_age(&latency, now), Relaxed, Relaxed).is_err() {
            return;
        }
        let (last, _) = floats(self.last_two.load(Relaxed));
        let (share, in_a_row) = unpack_failures(self.failures.load(Relaxed));
        if !failed {
            self.latency.store(pair(latency.mean, latency.variance), Relaxed);
            self.last_two.store(pair(took as f32, last), Relaxed);
        } else if took > SLOW_FAILURE {
            let slow = (took as f32).max(SLOW_FAILURE_AS);
            self.last_two.store(pair(slow, last), Relaxed);
        }
        let in_a_row = if failed { in_a_row.saturating_add(1) } else { 0 };
        let share = rule::failing(share, failed, idle_ms, is_probe);
        self.failures.store(u64::from(share.to_bits()) << 32 | u64::from(in_a_row), Relaxed);
        let good = !failed && peers.is_usual(took);
        self.stand(now, peers, is_probe.then_some(good));
    }

    /// Computes the factor anew, and what follows for probes. `probe`: one came back, well or not.
    fn stand(&self, now: u32, peers: &Peers, probe: Option<bool>) {
        let seen = self.standing();
        let (share, in_a_row) = unpack_failures(self.failures.load(Relaxed));
        let slowness = f32::from_bits(self.slowness.load(Relaxed));
        let errors = rule::errors(share, in_a_row, peers.failing());
        let last_two = floats(self.last_two.load(Relaxed));
        let factor = rule::factor(slowness, errors, last_two, peers.p99());
        let probe_at = if factor <= BAND {
            if seen.probe_at != 0 {
                self.forget_probes();
            }
            0
        } else if seen.probe_at == 0 {
            self.forget_probes();
            after(now, PROBE_FIRST)
        } else {
            match probe {
                None => seen.probe_at,
                Some(true) => {
                    self.probe.fetch_and(!PROBING, Relaxed);
                    now
                }
                Some(false) => {
                    let longest = if factor < 4.0 { PROBE_MILD } else { peers.probe_wait() };
                    after(now, (PROBE_FIRST << self.bad_probe()).min(longest))
                }
            }
        };
        let next = Standing { factor, probe_at };
        if next != seen {
            // Lost: to somebody who computed the same, or to a pick that took the probe. The next look at
            // all puts it right.
            let _ = self.standing.compare_exchange(seen.pack(), next.pack(), Relaxed, Relaxed);
        }
    }

    fn forget_probes(&self) {
        self.probe.fetch_and(!(PROBING | BAD_PROBES), Relaxed);
    }

    /// The probe was no good; how many that makes, at most 8.
    fn bad_probe(&self) -> u32 {
        let probe = self.probe.load(Relaxed);
        let bad = (probe & BAD_PROBES).min(7) + 1;
        self.probe.store(probe & !(PROBING | BAD_PROBES) | bad, Relaxed);
        bad as u32
    }

    fn latency(&self) -> Latency {
        unpack_latency(self.age.load(Relaxed), self.latency.load(Relaxed))
    }

    fn failing(&self) -> f32 {
        unpack_failures(self.failures.load(Relaxed)).0
    }
}

impl Standing {
    fn pack(self) -> u64 {
        u64::from(self.factor.to_bits()) << 32 | u64::from(self.probe_at)
    }

    #[inline]
    fn unpack(word: u64) -> Self {
        Self { factor: f32::from_bits((word >> 32) as u32), probe_at: word as u32 }
    }
}

/// Milliseconds modulo 2³² (49 days), never 0.
#[inline]
fn millis(now: Micros) -> u32 {
    ((now / 1000) as u32).max(1)
}

/// A moment so many ms later, never 0.
fn after(now: u32, ms: u32) -> u32 {
    now.wrapping_add(ms).max(1)
}

/// Times lie at most so far ahead: probes by two minutes, other workers' clocks by less. What looks further
/// ahead is weeks old. In ms.
const AHEAD: u32 = 600_000;

#[inline]
fn is_past(moment: u32, now: u32) -> bool {
    now.wrapping_sub(moment) <= u32::MAX - AHEAD
}

/// 0 if the clock of the other was ahead.
#[inline]
fn since(moment: u32, now: u32) -> u32 {
    if is_past(moment, now) { now.wrapping_sub(moment) } else { 0 }
}

fn pair(high: f32, low: f32) -> u64 {
    u64::from(high.to_bits()) << 32 | u64::from(low.to_bits())
}

fn floats(word: u64) -> (f32, f32) {
    (f32::from_bits((word >> 32) as u32), f32::from_bits(word as u32))
}

fn unpack_failures(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

const WEIGHT_ONE: f32 = 0xff_ffff as f32;

fn pack_age(latency: &Latency, now: u32) -> u64 {
    let weight = (latency.weight * WEIGHT_ONE) as u64;
    u64::from(now) << 32 | weight << 8 | u64::from(latency.samples)
}

fn unpack_latency(age: u64, latency: u64) -> Latency {
    let (mean, variance) = floats(latency);
    let weight = (age as u32 >> 8) as f32 / WEIGHT_ONE;
    Latency { samples: age as u8, mean, variance, weight }
}
