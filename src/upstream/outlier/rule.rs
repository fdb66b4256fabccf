//! The arithmetic of ejection: plain numbers in, plain numbers out.
//!
//! Counts, rates and the growth of the time are those of Envoy's outlier detection (its documentation,
//! "Outlier detection", gives the formulas); where we differ it is said.

use std::time::Duration;

use crate::config::types::Outlier;

use super::{Reason, Why};

/// What the rates are of.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Requests that a backend must have had for its success rate to count, and backends that must have had them.
pub const RATE_REQUESTS: u64 = 100;
pub const RATE_BACKENDS: usize = 5;
/// The threshold is at least so far below the mean, in percent. Ours: among backends that never fail the
/// deviation is next to nothing, and one failure in a hundred would be enough (the only one of N that fails at
/// all lies √(N − 1) deviations off, however little it fails).
pub const RATE_MARGIN: f64 = 5.0;
/// Requests that a backend must have had for its share of failures to count.
pub const PERCENT_REQUESTS: u64 = 50;
/// A backend's own word on when to come back is heeded up to so long.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Of the time out, each way: backends ejected together are not to be tried together.
const JITTER: f64 = 0.2;

/// How many of a pool may be out at once. `ready`: all that are ready; `healthy`: those of them that pass
/// checks; `hidden`: ejected ones that do not. The share is rounded down, but one may always be out unless
/// the share is 0; the last that could serve never is.
pub fn places(max_ejected: f64, ready: u32, healthy: u32, hidden: u32) -> u32 {
    if max_ejected <= 0.0 {
        return 0;
    }
    // Tenths have no exact binary fractions: 30 % of 10 are 3.
    let share = (max_ejected * f64::from(ready) + 1e-9).floor() as u32;
    share.max(1).min((healthy + hidden).saturating_sub(1))
}

/// How often it counts as ejected with this time: one more, less one for each `ejection_time` that it
/// `stayed` in since the last.
pub fn times(before: u16, stayed: Duration, rules: &Outlier) -> u16 {
    let spans = stayed.as_micros() / rules.ejection_time.as_micros().max(1);
    let left = u128::from(before).saturating_sub(spans) as u16;
    left.saturating_add(1)
}

/// For how long: `min(max_ejection_time, ejection_time × times)`, ±20 % by `random` (0..1).
pub fn term(times: u16, random: f64, rules: &Outlier) -> Duration {
    let base = rules.ejection_time.saturating_mul(times.into()).min(rules.max_ejection_time);
    base.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

/// Requests of one backend in the window, and those that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub failures: u64,
}

impl Counts {
    /// Percent of requests that did not fail.
    pub fn success(self) -> f64 {
        100.0 - 100.0 * self.failures.min(self.requests) as f64 / self.requests.max(1) as f64
    }
}

/// Who of a pool is to be ejected by the rates, the worst first, as indexes into `pool`.
pub fn by_rates(pool: &[Counts], rules: &Outlier) -> Vec<(usize, Why)> {
    let limit = threshold(pool, rules.success_rate_deviations);
    let mut out: Vec<(usize, Why)> = Vec::new();
    for (i, counts) in pool.iter().enumerate() {
        let rate = counts.success();
        let failed = counts.failures.min(counts.requests);
        let percent = f64::from(rules.failure_percent);
        if percent > 0.0
            && counts.requests >= PERCENT_REQUESTS
            && failed as f64 * 100.0 >= percent * counts.requests as f64
        {
            out.push((i, Why::FailurePercent { failed, requests: counts.requests }));
        } else if let Some(limit) = limit
            && counts.requests >= RATE_REQUESTS
            && rate < limit.value()
        {
            out.push((i, Why::SuccessRate { rate, limit }));
        }
    }
    out.sort_by(|(a, _), (b, _)| pool[*a].success().total_cmp(&pool[*b].success()));
    out
}

/// The success rate below which a backend is an outlier, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    pub mean: f64,
    /// Standard deviation (of the population).
    pub deviation: f64,
    pub factor: f64,
}

impl Threshold {
    /// `mean − max(factor × deviation, 5)`.
    pub fn value(self) -> f64 {
        self.mean - (self.factor * self.deviation).max(RATE_MARGIN)
    }
}

/// `None`: too little happened on too few backends, or `factor` is 0.
pub fn threshold(pool: &[Counts], factor: f64) -> Option<Threshold> {
    let rates = || pool.iter().filter(|c| c.requests >= RATE_REQUESTS).map(|c| c.success());
    let n = rates().count();
    if factor <= 0.0 || n < RATE_BACKENDS {
        return None;
    }
    let mean = rates().sum::<f64>() / n as f64;
    let variance = rates().map(|rate| (rate - mean).powi(2)).sum::<f64>() / n as f64;
    Some(Threshold { mean, deviation: variance.sqrt(), factor })
}

/// Whether a reason counts under these rules; those that no longer do let their backends back.
pub fn is_on(reason: Reason, rules: &Outlier) -> bool {
    rules.max_ejected > 0.0
        && match reason {
            Reason::Consecutive => rules.consecutive_failures > 0,
            Reason::SuccessRate => rules.success_rate_deviations > 0.0,
            Reason::FailurePercent => rules.failure_percent > 0,
            Reason::RetryAfter | Reason::Probe => true,
        }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Outlier = Outlier {
        consecutive_failures: 5,
        success_rate_deviations: 1.9,
        failure_percent: 85,
        ejection_time: Duration::from_secs(10),
        max_ejection_time: Duration::from_secs(300),
        max_ejected: 0.5,
    };

    #[test]
    fn the_share_is_rounded_down_but_one_may_go_and_the_last_never_does() {
        let all_well = |share, ready| places(share, ready, ready, 0);
        assert_eq!([1, 2, 3, 4, 5, 10].map(|n| all_well(0.5, n)), [0, 1, 1, 2, 2, 5]);
        assert_eq!([1, 2, 3, 10].map(|n| all_well(1.0, n)), [0, 1, 2, 9]);
        assert_eq!([1, 2, 3, 30].map(|n| all_well(0.1, n)), [0, 1, 1, 3]);
        assert_eq!(all_well(0.3, 10), 3);
        assert_eq!(all_well(0.0, 10), 0);
        // Four of six fail their checks: one of the other two must stay.
        assert_eq!(places(0.5, 6, 2, 0), 1);
        assert_eq!(places(0.5, 6, 1, 0), 0);
        // One that was ejected fails checks as well: it holds a place, but is none that could serve.
        assert_eq!(places(0.5, 6, 2, 1), 2);
    }

    fn counts(pool: &[(u64, u64)]) -> Vec<Counts> {
        pool.iter().map(|&(requests, failures)| Counts { requests, failures }).collect()
    }

    const NOBODY: [usize; 0] = [];

    fn out(pool: &[(u64, u64)]) -> Vec<usize> {
        by_rates(&counts(pool), &RULES).into_iter().map(|(i, _)| i).collect()
    }

    #[test]
    fn one_of_five_that_fails_a_third_is_an_outlier() {
        let good = (100, 1);
        assert_eq!(out(&[good, good, good, good, (100, 33)]), [4]);
        assert_eq!(out(&[good, good, good, (100, 33)]), NOBODY, "four backends say nothing");
        assert_eq!(out(&[good, good, good, good, (99, 33)]), NOBODY, "nor do 99 requests");
        assert_eq!(out(&[(100, 0); 5]), NOBODY);
        // Two standard deviations off, but what is one failure in a hundred?
        assert_eq!(out(&[(100, 0), (100, 0), (100, 0), (100, 0), (100, 1)]), NOBODY);
        assert_eq!(out(&[(1000, 300); 8]), NOBODY, "when all fail, nobody is an outlier");
    }

    #[test]
    fn who_fails_nearly_always_is_out_whatever_the_others_do() {
        assert_eq!(out(&[(50, 43), (50, 42)]), [0]);
        assert_eq!(out(&[(49, 49)]), NOBODY);
        // The worst comes first: there may be no place for both.
        assert_eq!(out(&[(100, 86), (100, 100)]), [1, 0]);
    }

    proptest! {
        /// Against the formula written out: below the mean by more than the deviations and the margin.
        #[test]
        fn the_success_rate_threshold(
            pool in prop::collection::vec((0_u64..400, 0.0..1.0), 0..30),
            factor in 0.1..3.0,
        ) {
            let pool: Vec<Counts> = pool
                .iter()
                .map(|&(requests, share)| Counts { requests, failures: (requests as f64 * share) as u64 })
                .collect();
            let rates: Vec<f64> = pool
                .iter()
                .filter(|c| c.requests >= 100)
                .map(|c| (c.requests - c.failures) as f64 / c.requests as f64 * 100.0)
                .collect();
            let rules = Outlier { success_rate_deviations: factor, failure_percent: 0, ..RULES };
            let mut out: Vec<_> = by_rates(&pool, &rules).into_iter().map(|(i, _)| i).collect();
            out.sort_unstable();
            let mean = rates.iter().sum::<f64>() / rates.len() as f64;
            let squares = rates.iter().map(|rate| rate * rate).sum::<f64>() / rates.len() as f64;
            let below = mean - (factor * (squares - mean * mean).max(0.0).sqrt()).max(5.0);
            for (i, counts) in pool.iter().enumerate() {
                let rate = (counts.requests - counts.failures) as f64 / counts.requests.max(1) as f64 * 100.0;
                // On the line rounding may go either way.
                if rates.len() >= 5 && counts.requests >= 100 && (rate - below).abs() > 1e-6 {
                    prop_assert_eq!(out.contains(&i), rate < below, "{} of {}: {} < {}", i, rates.len(), rate, below);
                } else if rates.len() < 5 || counts.requests < 100 {
                    prop_assert!(!out.contains(&i));
                }
            }
        }

        #[test]
        fn the_time_out(times in 1_u16.., random in 0.0..1.0, base in 1_u64..100_000, most in 1_u64..1_000_000) {
            let rules = Outlier {
                ejection_time: Duration::from_millis(base),
                max_ejection_time: Duration::from_millis(most),
                ..RULES
            };
            let exact = (base * u64::from(times)).min(most) as f64 / 1e3;
            let term = term(times, random, &rules).as_secs_f64();
            prop_assert!((exact * 0.8 - 1e-6..=exact * 1.2 + 1e-6).contains(&term), "{term} for {exact}");
            let exact = exact * (0.8 + 0.4 * random);
            prop_assert!((term - exact).abs() < 1e-6, "{term} for {exact}");
        }

        /// One more, less one for each span in the pool; at least one.
        #[test]
        fn the_times_it_counts_as_ejected(before: u16, stayed in 0_u64..10_000) {
            let times = times(before, Duration::from_secs(stayed), &RULES);
            let left = u64::from(before).saturating_sub(stayed / 10);
            prop_assert_eq!(u64::from(times), (left + 1).min(65_535));
        }
    }
}
