//! Peak-sensitive moving average of latency, in one word. Source: Finagle's and linkerd's peak EWMA.
//!
//! A sample above the estimate replaces it at once: latency that rises must be felt at the next pick. A
//! sample below is mixed in: `v·w + x·(1 − w)` with `w = e^(−dt/τ)`, dt the time since the last
//! write and τ = 10 s. Reading projects the estimate to now, as though a sample of 0 were mixed in:
//! `v·e^(−dt/τ)`. So a backend that got nothing since a bad answer is tried again in the end. Reading never
//! writes, so picks of all workers share the line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Micros;

/// What is assumed of a backend that nothing is known of, in µs.
pub const UNKNOWN_US: f32 = 30_000.0;
/// What a failure counts as at least, in µs.
pub const FAILURE_US: f32 = 5_000_000.0;

const TAU_MS: f32 = 10_000.0;
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Value as f32 µs and time of the last write as u32 ms. 0 = nothing recorded yet.
///
/// Every write is one compare-exchange; a writer that loses the race drops its sample. Times are compared
/// modulo 2³² ms (49 days).
#[derive(Debug, Default)]
pub struct PeakEwma(AtomicU64);

impl PeakEwma {
    /// The estimate projected to `now`, in µs, at least 1; [`UNKNOWN_US`] before the first value.
    #[inline]
    pub fn read(&self, now: Micros) -> f32 {
        match unpack(self.0.load(Relaxed)) {
            None => UNKNOWN_US,
            Some((value, at)) => (value * weight(millis(now), at)).max(1.0),
        }
    }

    /// Whether a value was recorded or seeded.
    pub fn is_known(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// Sets a first value (the median of the peers), in µs; nothing if there is one already.
    pub fn seed(&self, us: f32, now: Micros) {
        let _ = self.0.compare_exchange(0, pack(us, millis(now)), Relaxed, Relaxed);
    }

    /// Takes in the time to the head of an answer, in µs.
    #[inline]
    pub fn record(&self, us: f32, now: Micros) {
        let word = self.0.load(Relaxed);
        let now = millis(now);
        let next = match unpack(word) {
            Some((value, at)) if us < value => {
                let w = weight(now, at);
                value * w + us * (1.0 - w)
            }
            _ => us,
        };
        let _ = self.0.compare_exchange(word, pack(next, now), Relaxed, Relaxed);
    }

    /// Takes in a failure: `max(5 s, estimate, Retry-After ≤ 300 s)`. Without it a backend that fails fast
    /// looks fast and draws traffic. A client that goes away is not a failure.
    pub fn fail(&self, now: Micros, retry_after: Option<Duration>) {
        let word = self.0.load(Relaxed);
        let current = unpack(word).map_or(0.0, |(value, _)| value);
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX).as_micros() as f32;
        let value = FAILURE_US.max(current).max(asked);
        let _ = self.0.compare_exchange(word, pack(value, millis(now)), Relaxed, Relaxed);
    }
}

/// The middle one of some estimates (the lower of two); `None` of none. Reorders them.
pub fn median(estimates: &mut [f32]) -> Option<f32> {
    let middle = estimates.len().checked_sub(1)? / 2;
    Some(*estimates.select_nth_unstable_by(middle, f32::total_cmp).1)
}

#[inline]
fn millis(now: Micros) -> u32 {
    (now / 1000) as u32
}

/// `e^(−dt/τ)`; 1 if the clock of the writer was ahead.
#[inline]
fn weight(now: u32, at: u32) -> f32 {
    let dt = now.wrapping_sub(at) as i32;
    if dt <= 0 { 1.0 } else { (-(dt as f32) / TAU_MS).exp() }
}

#[inline]
fn pack(us: f32, at: u32) -> u64 {
    // At least 1, so that the word is never 0.
    u64::from(us.max(1.0).to_bits()) << 32 | u64::from(at)
}

#[inline]
fn unpack(word: u64) -> Option<(f32, u32)> {
    (word != 0).then(|| (f32::from_bits((word >> 32) as u32), word as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    /// Within a thousandth: the word keeps an f32.
    fn near(got: f32, expected: f32) {
        assert!((got / expected - 1.0).abs() < 1e-3, "{got} for {expected}");
    }

    #[test]
    fn rises_at_once_and_falls_slowly() {
        let ewma = PeakEwma::default();
        near(ewma.read(SECOND), UNKNOWN_US);
        ewma.record(10_000.0, SECOND);
        near(ewma.read(SECOND), 10_000.0);
        ewma.record(50_000.0, 2 * SECOND);
        near(ewma.read(2 * SECOND), 50_000.0);
        // 10 s later, below: 50 e^-1 + 10 (1 - e^-1) ms.
        ewma.record(10_000.0, 12 * SECOND);
        near(ewma.read(12 * SECOND), 24_715.18);
    }

    #[test]
    fn reading_projects_and_does_not_write() {
        let ewma = PeakEwma::default();
        ewma.record(50_000.0, 0);
        near(ewma.read(20 * SECOND), 6_766.76);
        near(ewma.read(0), 50_000.0);
        near(ewma.read(3600 * SECOND), 1.0);
    }

    #[test]
    fn a_failure_is_slow_however_fast_it_came() {
        let ewma = PeakEwma::default();
        ewma.record(1_000.0, SECOND);
        ewma.fail(SECOND, None);
        near(ewma.read(SECOND), FAILURE_US);
        ewma.fail(SECOND, Some(Duration::from_secs(20)));
        near(ewma.read(SECOND), 20_000_000.0);
        ewma.fail(SECOND, None);
        near(ewma.read(SECOND), 20_000_000.0);
        ewma.fail(SECOND, Some(Duration::from_secs(86_400)));
        near(ewma.read(SECOND), 300_000_000.0);
    }

    #[test]
    fn only_the_first_value_is_seeded() {
        let ewma = PeakEwma::default();
        assert!(!ewma.is_known());
        ewma.seed(80_000.0, 0);
        ewma.seed(1.0, 0);
        assert!(ewma.is_known());
        near(ewma.read(0), 80_000.0);
    }

    #[test]
    fn a_clock_that_is_behind_the_writers_counts_as_the_same_moment() {
        let ewma = PeakEwma::default();
        ewma.record(50_000.0, 10 * SECOND);
        near(ewma.read(9 * SECOND), 50_000.0);
        // The 32 bits of milliseconds run over.
        let end = (u64::from(u32::MAX) + 1) * 1000;
        ewma.record(70_000.0, end - SECOND);
        near(ewma.read(end + 9 * SECOND), 25_751.56);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0]), Some(3.0));
        assert_eq!(median(&mut [9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&mut [9.0, 1.0, 5.0, 7.0]), Some(5.0));
    }
}
