//! When requests are due: planned from the rate alone, so that no answer can move them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A rate that changes is taken as constant within this time.
const STEP: f64 = 0.010;

/// Requests per second as a function of the time since the start. Cheap to clone.
#[derive(Clone)]
pub struct Rate(Kind);

#[derive(Clone)]
enum Kind {
    Constant(f64),
    Varying(Arc<dyn Fn(Duration) -> f64 + Send + Sync>),
}

impl Rate {
    pub fn constant(rate: f64) -> Self {
        Self(Kind::Constant(rate))
    }

    /// Any function of time, looked at every 10 ms. Values below 0 count as 0.
    pub fn varying(rate: impl Fn(Duration) -> f64 + Send + Sync + 'static) -> Self {
        Self(Kind::Varying(Arc::new(rate)))
    }

    pub fn at(&self, time: Duration) -> f64 {
        match &self.0 {
            Kind::Constant(rate) => *rate,
            Kind::Varying(rate) => rate(time).max(0.0),
        }
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Constant(rate) => write!(f, "{rate}/s"),
            Kind::Varying(_) => f.write_str("varying"),
        }
    }
}

/// How requests follow each other at a given rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Independent of each other, as those of many people are.
    Poisson,
    /// Evenly.
    Uniform,
}

/// The times at which requests are due, in order. An iterator over times since the start.
///
/// By time rescaling: the next arrival is where the integral of the rate has grown by 1
/// (uniform) or by a unit exponential value (Poisson; Cinlar 1975, section 4.7).
#[derive(Debug)]
pub struct Arrivals {
    rate: Rate,
    spacing: Spacing,
    end: f64,
    now: f64,
    rng: fastrand::Rng,
}

impl Arrivals {
    pub fn new(rate: Rate, spacing: Spacing, duration: Duration, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { rate, spacing, end: duration.as_secs_f64(), now: 0.0, rng }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let mut due = match self.spacing {
            Spacing::Poisson => -(1.0 - self.rng.f64()).ln(),
            Spacing::Uniform => 1.0,
        };
        while self.now < self.end {
            let rate = self.rate.at(Duration::from_secs_f64(self.now));
            let step = match self.rate.0 {
                Kind::Constant(_) => self.end - self.now,
                // At least a part of a step, so that rounding cannot stop it.
                Kind::Varying(_) => (STEP - self.now % STEP).max(STEP / 1000.0),
            };
            if rate * step >= due {
                self.now += due / rate;
                return (self.now < self.end).then(|| Duration::from_secs_f64(self.now));
            }
            due -= rate * step;
            self.now += step;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(rate: Rate, spacing: Spacing, seconds: u64) -> Vec<f64> {
        Arrivals::new(rate, spacing, Duration::from_secs(seconds), 1)
            .map(|due| due.as_secs_f64())
            .collect()
    }

    #[test]
    fn uniform_arrivals_are_evenly_spaced() {
        let due = all(Rate::constant(100.0), Spacing::Uniform, 2);
        assert!((199..=200).contains(&due.len()), "{}", due.len());
        assert!(due.windows(2).all(|pair| (pair[1] - pair[0] - 0.01).abs() < 1e-6));
    }

    /// Count and variance of the gaps, each within 5 standard errors.
    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let due = all(Rate::constant(1000.0), Spacing::Poisson, 100);
        let n = due.len() as f64;
        assert!((n - 100_000.0).abs() < 5.0 * 100_000_f64.sqrt(), "{n}");
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // The variance of an exponential gap is the square of its mean; its own standard error is √(8/n).
        assert!((variance / mean.powi(2) - 1.0).abs() < 5.0 * (8.0 / n).sqrt(), "{variance}");
    }

    #[test]
    fn a_rate_may_change() {
        let rate = Rate::varying(|time| if time < Duration::from_secs(1) { 100.0 } else { 300.0 });
        let due = all(rate, Spacing::Uniform, 2);
        let first = due.iter().filter(|time| **time < 1.0).count();
        assert!((99..=100).contains(&first), "{first}");
        assert!((398..=400).contains(&due.len()), "{}", due.len());
    }

    #[test]
    fn no_rate_means_no_arrivals_and_an_end() {
        assert!(all(Rate::constant(0.0), Spacing::Poisson, 1).is_empty());
        assert!(all(Rate::varying(|_| -1.0), Spacing::Uniform, 1).is_empty());
    }

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        let plan = || all(Rate::constant(50.0), Spacing::Poisson, 1);
        assert_eq!(plan(), plan());
    }
}
