//! How long requests waited: a histogram that takes whole distributions at once.

/// Bounds of the buckets grow by this factor: quantiles are right within 6 %.
const GROWTH: f64 = 1.12;
/// Upper bound of the first bucket, in seconds.
const FIRST: f64 = 0.000_5;
const BUCKETS: usize = 90;

/// Requests by the time they waited, up to [`super::setting::PATIENCE`].
#[derive(Debug, Clone, PartialEq)]
pub struct Waits {
    /// Requests that waited no longer than the bound of the bucket, and longer than the one before.
    counts: [f64; BUCKETS],
    bounds: [f64; BUCKETS],
}

impl Default for Waits {
    fn default() -> Self {
        let mut bounds = [FIRST; BUCKETS];
        for i in 1..BUCKETS {
            bounds[i] = bounds[i - 1] * GROWTH;
        }
        Self { counts: [0.0; BUCKETS], bounds }
    }
}

impl Waits {
    /// So many requests waited that long.
    pub fn at(&mut self, wait: f64, requests: f64) {
        self.counts[self.bucket(wait)] += requests;
    }

    /// Requests that wait with that probability, exponentially with that rate.
    pub fn exponential(&mut self, waiting: f64, pace: f64, requests: f64) {
        self.counts[0] += requests;
        let all = waiting * requests;
        // A hundredth of a request does not move a quantile.
        if all < 0.01 {
            return;
        }
        let mut longer = all * (-pace * self.bounds[0]).exp();
        self.counts[0] -= longer;
        for i in 1..BUCKETS {
            let next = all * (-pace * self.bounds[i]).exp();
            if next < 0.01 || i == BUCKETS - 1 {
                self.counts[i] += longer;
                return;
            }
            self.counts[i] += longer - next;
            longer = next;
        }
    }

    /// Requests whose waits are spread evenly between two times.
    pub fn between(&mut self, from: f64, to: f64, requests: f64) {
        let (low, high) = if from < to { (from, to) } else { (to, from) };
        let (first, last) = (self.bucket(low), self.bucket(high));
        if first == last || high - low < 1e-9 {
            self.counts[last] += requests;
            return;
        }
        let mut at = low;
        for i in first..=last {
            let end = if i == last { high } else { self.bounds[i] };
            self.counts[i] += requests * (end - at) / (high - low);
            at = end;
        }
    }

    /// The time that this share of requests did not exceed, in seconds; 0 without any.
    pub fn quantile(&self, q: f64) -> f64 {
        let all: f64 = self.counts.iter().sum();
        let mut left = all * q;
        for (i, count) in self.counts.iter().enumerate() {
            left -= count;
            if left <= all * 1e-12 {
                return if i == 0 { 0.0 } else { self.bounds[i].min(super::setting::PATIENCE) };
            }
        }
        0.0
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, more)| *mine += more);
    }

    fn bucket(&self, wait: f64) -> usize {
        self.bounds.partition_point(|bound| *bound < wait).min(BUCKETS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(waits: &Waits) -> f64 {
        waits.counts.iter().sum()
    }

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut waits = Waits::default();
        waits.at(0.0, 98.5);
        waits.at(2.0, 1.5);
        assert_eq!(waits.quantile(0.98), 0.0);
        let p99 = waits.quantile(0.99);
        assert!((2.0..2.0 * GROWTH).contains(&p99), "{p99}");
        waits.at(10.0, 1000.0);
        assert_eq!(waits.quantile(0.99), 10.0);
    }

    #[test]
    fn an_exponential_has_its_tail() {
        let mut waits = Waits::default();
        waits.exponential(0.5, 10.0, 1000.0);
        assert!((total(&waits) - 1000.0).abs() < 1e-6);
        // P(wait > t) = 0.5·e^-10t is 1 % at 0.391 s.
        let p99 = waits.quantile(0.99);
        assert!((0.391..0.391 * GROWTH).contains(&p99), "{p99}");
    }

    #[test]
    fn an_even_spread_is_even() {
        let mut waits = Waits::default();
        waits.between(1.0, 0.0, 100.0);
        assert!((total(&waits) - 100.0).abs() < 1e-6);
        let half = waits.quantile(0.5);
        assert!((0.5..0.5 * GROWTH).contains(&half), "{half}");
        assert_eq!(Waits::default().quantile(0.99), 0.0);
    }
}
