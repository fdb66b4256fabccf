//! Where the rate is going: a line through the last 30 s, believed only if it rises beyond noise.

use super::Params;
use super::arrivals::Arrivals;

/// Buckets of three seconds that the line is laid through.
const BUCKETS: usize = 10;
const BUCKET: f64 = 3.0;
/// From the middle of the line to now, in seconds.
const MIDDLE: f64 = 15.0;

/// A rise that is no noise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rise {
    mean: f64,
    /// Requests/s².
    pub slope: f64,
    /// The slope without what may be luck.
    sure: f64,
}

impl Rise {
    /// The rate in so many seconds.
    pub fn at(&self, seconds: f64) -> f64 {
        self.mean + self.sure * (MIDDLE + seconds)
    }
}

/// Ordinary least squares over the last 30 s; `None` without them or without a rise.
///
/// The residual variance is at least that of the arrivals themselves: ten points can lie on a
/// line by luck.
pub(super) fn rise(arrivals: &Arrivals, dispersion: f64, params: &Params) -> Option<Rise> {
    if f64::from(arrivals.valid()) < BUCKETS as f64 * BUCKET {
        return None;
    }
    let mut rates = [0.0; BUCKETS];
    for (i, rate) in rates.iter_mut().enumerate() {
        *rate = arrivals.three((BUCKETS - 1 - i) * BUCKET as usize) / BUCKET;
    }
    let count = BUCKETS as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let x = |i: usize| (i as f64 - (count - 1.0) / 2.0) * BUCKET;
    let spread: f64 = (0..BUCKETS).map(|i| x(i).powi(2)).sum();
    let slope = rates.iter().enumerate().map(|(i, rate)| x(i) * rate).sum::<f64>() / spread;
    let off = |(i, rate): (usize, &f64)| (rate - mean - slope * x(i)).powi(2);
    let residual = rates.iter().enumerate().map(off).sum::<f64>() / (count - 2.0);
    let error = (residual.max(dispersion * mean / BUCKET) / spread).sqrt();
    (slope > params.slope_gate * error).then_some(Rise {
        mean,
        slope,
        sure: slope - params.slope_sigmas * error,
    })
}
