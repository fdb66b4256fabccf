//! Where a value will be: a line through its last minute, believed only if it rises beyond noise.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Micros;

/// Lead time until one was measured.
pub const LEAD: Duration = Duration::from_secs(30);
/// Seconds that the line is laid through, and the least of it.
const WINDOW: Micros = 60_000_000;
const LEAST: Micros = 20_000_000;
/// Standard errors that the slope must have; half of them are taken off.
const SURE: f64 = 4.0;

/// The values of the last minute.
#[derive(Debug, Clone, Default)]
pub struct Forecast {
    values: VecDeque<(Micros, f64)>,
}

impl Forecast {
    pub fn push(&mut self, now: Micros, value: f64) {
        self.values.push_back((now, value));
        while self.values.front().is_some_and(|(at, _)| at + WINDOW < now) {
            self.values.pop_front();
        }
    }

    /// The value in so many seconds; `None` if it does not rise for sure.
    pub fn in_seconds(&self, seconds: f64) -> Option<f64> {
        let (first, last) = (self.values.front()?.0, self.values.back()?.0);
        let count = self.values.len() as f64;
        if last - first < LEAST || count < 5.0 {
            return None;
        }
        let x = |at: Micros| (at - first) as f64 / 1e6;
        let (mean_x, mean) = self.values.iter().fold((0.0, 0.0), |(sum_x, sum), (at, value)| {
            (sum_x + x(*at) / count, sum + value / count)
        });
        let spread: f64 = self.values.iter().map(|(at, _)| (x(*at) - mean_x).powi(2)).sum();
        let product = |(at, value): &(Micros, f64)| (x(*at) - mean_x) * (value - mean);
        let slope = self.values.iter().map(product).sum::<f64>() / spread;
        let off = |(at, value): &(Micros, f64)| (value - mean - slope * (x(*at) - mean_x)).powi(2);
        let residual = self.values.iter().map(off).sum::<f64>() / (count - 2.0);
        let error = (residual / spread).sqrt();
        let sure = slope - SURE / 2.0 * error;
        (slope > SURE * error && slope > 0.0).then(|| mean + sure * (x(last) - mean_x + seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: impl Fn(u64) -> f64) -> Forecast {
        let mut forecast = Forecast::default();
        (0..100).for_each(|t| forecast.push(t * 1_000_000, value(t)));
        forecast
    }

    #[test]
    fn a_line_goes_on() {
        let then = of(|t| 2.0 * t as f64).in_seconds(30.0).expect("it rises");
        assert!((then - 258.0).abs() < 1e-6, "{then}");
    }

    #[test]
    fn noise_and_falling_are_no_rise() {
        let mut rng = fastrand::Rng::with_seed(7);
        let noise: Vec<f64> = (0..100).map(|_| rng.f64()).collect();
        assert_eq!(of(|t| noise[t as usize]).in_seconds(30.0), None);
        assert_eq!(of(|t| 200.0 - t as f64).in_seconds(30.0), None);
        assert_eq!(of(|_| 5.0).in_seconds(30.0), None);
    }
}
