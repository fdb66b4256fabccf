//! The arithmetic of what is learned: plain numbers in, plain numbers out.
//!
//! Latency is kept as its logarithm, so that ratios between backends are differences and one very slow
//! answer does not outweigh hundreds. Two ideas carry the rest. A backend can only lose traffic by being
//! slow, never gain by being fast ([`slowness`] is used from 1 up). And differences no larger than the noise
//! of the samples would make them are ignored ([`shrinkage`]; empirical Bayes, after James and Stein 1961).

use crate::clock::Micros;

/// Up to this factor a backend is not suspect, and when idle counts as not slow at all: differences of
/// a few percent must not decide who gets the only request of a second.
pub const BAND: f32 = 1.25;
/// Bound of each term.
pub const FACTOR_MAX: f32 = 16.0;
/// With fewer answers nothing is concluded from a backend's latency.
pub const SAMPLES_MIN: u8 = 8;

/// Least weight of a new sample of latency.
const ALPHA: f32 = 1.0 / 64.0;
/// Least weight of a new outcome.
const ALPHA_OUTCOME: f32 = 1.0 / 32.0;
/// Most weight that a sample gains by coming late.
const LATE: f32 = 1.0 / 8.0;
const LATE_OUTCOME: f32 = 1.0 / 4.0;
/// Time constant of coming late, in ms.
const TAU_MS: f32 = 60_000.0;
/// Twice as slow costs four times as much: a slow backend's queue is slow, too.
const POWER: f32 = 2.0;
/// Two answers in a row this many times slower than the pool's p99 are no accident.
const ABNORMAL: f32 = 3.0;
/// Share of failures that nobody is blamed for.
const ERRORS_FREE: f32 = 0.05;

/// Latency of one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Latency {
    /// Answers seen, at most 255.
    pub samples: u8,
    /// Of ln µs.
    pub mean: f32,
    /// Of ln µs.
    pub variance: f32,
    /// Weight that new samples have had lately: 1/n at first, never 0.
    pub weight: f32,
}

impl Latency {
    /// With one more answer, `idle_ms` after the last outcome of any kind.
    pub fn with(self, took: Micros, idle_ms: u32, probe: bool) -> Self {
        let ln = (took.max(10) as f32).ln();
        if self.samples == 0 {
            return Self { samples: 1, mean: ln, variance: 0.0, weight: 1.0 };
        }
        let samples = self.samples.saturating_add(1);
        let probe = if probe { LATE } else { 0.0 };
        let alpha = ALPHA.max(1.0 / f32::from(samples)).max(late(idle_ms).min(LATE)).max(probe);
        let off = ln - self.mean;
        Self {
            samples,
            mean: self.mean + alpha * off,
            variance: self.variance + alpha * (off * off - self.variance),
            weight: match alpha > self.weight {
                true => alpha,
                false => self.weight + 0.1 * (alpha - self.weight),
            },
        }
    }

    pub fn is_known(&self) -> bool {
        self.samples >= SAMPLES_MIN
    }
}

/// The share of failures after one more outcome.
pub fn failing(share: f32, failed: bool, idle_ms: u32, probe: bool) -> f32 {
    let probe = if probe { LATE_OUTCOME } else { 0.0 };
    let alpha = ALPHA_OUTCOME.max(late(idle_ms).min(LATE_OUTCOME)).max(probe);
    share + alpha * (f32::from(u8::from(failed)) - share)
}

/// 1 − e^(−t/60 s): how much of what was known is out of date.
fn late(idle_ms: u32) -> f32 {
    // Under a second it is below every weight that it is compared with.
    if idle_ms < 900 { 0.0 } else { 1.0 - (-(idle_ms as f32) / TAU_MS).exp() }
}

/// 1..=16 by the share of failures and those in a row, against the pool's median share: when everybody
/// fails, nobody is to be avoided.
pub fn errors(share: f32, in_a_row: u32, median: f32) -> f32 {
    if in_a_row as f32 >= 2.0 + 20.0 * median {
        return FACTOR_MAX;
    }
    let excess = share - ERRORS_FREE.max(3.0 * median);
    (1.0 + 30.0 * excess.max(0.0)).min(FACTOR_MAX)
}

/// How much of the differences between backends is real, 0..=1: the part of their variance that the noise
/// of their samples does not explain. `median`: of the means. Fewer than two say nothing.
pub fn shrinkage(known: &[Latency], median: f32) -> f32 {
    if known.len() < 2 {
        return 0.0;
    }
    let observed = known.iter().map(|l| (l.mean - median).powi(2)).sum::<f32>();
    let observed = observed / (known.len() - 1) as f32;
    let noise = known.iter().map(|l| l.variance * l.weight / (2.0 - l.weight)).sum::<f32>();
    let noise = noise / known.len() as f32;
    if observed > 0.0 { (1.0 - noise / observed).max(0.0) } else { 0.0 }
}

/// How slow against the median, 1/16..=16.
pub fn slowness(mean: f32, median: f32, shrinkage: f32) -> f32 {
    (shrinkage * POWER * (mean - median)).exp().clamp(1.0 / FACTOR_MAX, FACTOR_MAX)
}

/// What a pick multiplies the load with: at least 1. `last_two` in µs (0 = none yet), `p99` of the pool in µs
/// (0 = not known).
pub fn factor(slowness: f32, errors: f32, last_two: (f32, f32), p99: f32) -> f32 {
    let factor = slowness.max(1.0) * errors;
    let abnormal = if p99 > 0.0 { last_two.0.min(last_two.1) / p99 } else { 0.0 };
    if abnormal > ABNORMAL { factor.max(abnormal.min(FACTOR_MAX)) } else { factor }
}

/// The middle one, or the mean of the two in the middle; reorders them.
pub fn median(values: &mut [f32]) -> Option<f32> {
    let middle = values.len().checked_sub(1)? / 2;
    let even = values.len().is_multiple_of(2);
    let (_, &mut lower, above) = values.select_nth_unstable_by(middle, f32::total_cmp);
    let upper = above.iter().copied().min_by(f32::total_cmp).filter(|_| even);
    Some(upper.map_or(lower, |upper| (lower + upper) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f32, expected: f32) {
        assert!((got - expected).abs() < 1e-4 * expected.abs().max(1.0), "{got} for {expected}");
    }

    /// A backend whose mean is so far from a median of 10, with the noise of a running estimate.
    fn known(off: f32) -> Latency {
        Latency { samples: 100, mean: 10.0 + off, variance: 1.6, weight: 1.0 / 64.0 }
    }

    #[test]
    fn the_first_answers_are_a_mean_and_later_ones_a_moving_average() {
        let mut latency = Latency::default();
        for us in [1000, 4000, 2000, 8000] {
            latency = latency.with(us, 1, false);
        }
        near(latency.mean, 1000_f32.ln() + 1.5 * 2_f32.ln());
        for _ in 0..2000 {
            latency = latency.with(500, 1, false);
        }
        near(latency.mean, 500_f32.ln());
        near(latency.weight, ALPHA);
        let before = latency.mean;
        near(latency.with(1000, 1, false).mean, before + 2_f32.ln() / 64.0);
        near(latency.with(1000, 1, true).mean, before + 2_f32.ln() / 8.0);
        // After half a minute without any, one counts for more; never for more than an eighth.
        near(latency.with(1000, 3000, false).mean, before + 2_f32.ln() * 0.048_770_6);
        near(latency.with(1000, 600_000, false).mean, before + 2_f32.ln() / 8.0);
    }

    #[test]
    fn noise_is_told_from_difference() {
        let pool = [0.1, -0.1, 0.05, -0.05].map(known);
        near(shrinkage(&pool, 10.0), 0.0);
        let pool = [1.0, -1.0, 0.5, -0.5].map(known);
        near(shrinkage(&pool, 10.0), 0.984_88);
        near(shrinkage(&[known(3.0)], 10.0), 0.0);
        near(shrinkage(&[known(0.0); 3], 10.0), 0.0);
    }

    #[test]
    fn twice_as_slow_as_the_other_of_two_costs_twice_as_much() {
        let (fast, slow) = (40_000_f32.ln(), 80_000_f32.ln());
        let middle = median(&mut [slow, fast]).expect("two values");
        near(slowness(slow, middle, 1.0), 2.0);
        near(slowness(fast, middle, 1.0), 0.5);
        near(factor(0.5, 1.0, (0.0, 0.0), 0.0), 1.0);
        near(slowness(800_000_f32.ln(), 50_000_f32.ln(), 1.0), 16.0);
    }

    #[test]
    fn failures_count_against_those_of_the_others() {
        near(errors(0.06, 2, 0.0), 16.0);
        near(errors(0.04, 1, 0.0), 1.0);
        near(errors(0.15, 1, 0.0), 4.0);
        near(errors(0.15, 1, 0.05), 1.0);
        near(errors(1.0, 21, 1.0), 1.0);
        let share = (0..200).fold(0.0, |share, i| failing(share, i % 2 == 0, 1, false));
        assert!((0.45..0.55).contains(&share), "{share}");
    }

    #[test]
    fn two_answers_far_beyond_the_pools_count_at_once_and_one_does_not() {
        near(factor(1.0, 1.0, (2e6, 5e4), 6e4), 1.0);
        near(factor(1.0, 1.0, (2e6, 6e5), 6e4), 10.0);
        near(factor(1.0, 1.0, (2e6, 2e6), 6e4), 16.0);
        near(factor(1.0, 1.0, (2e6, 2e6), 0.0), 1.0);
        near(factor(1.0, 1.0, (1.7e5, 1.7e5), 6e4), 1.0);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0]), Some(3.0));
        assert_eq!(median(&mut [4.0, 1.0]), Some(2.5));
        assert_eq!(median(&mut [9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&mut [9.0, 1.0, 5.0, 7.0]), Some(6.0));
    }
}
