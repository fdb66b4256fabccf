//! A histogram that forgets: durations count less the older they are.
//!
//! For decisions on the data plane that need a quantile of the last half minute or so and have no windows
//! to look at, which the control plane keeps. Whoever wants one reads the workers' histograms into it.

use super::PerWorker;
use super::histogram::{BUCKETS, Histogram, Reading, lower_bound};

/// What one reader of some [`Histogram`]s remembers of them.
#[derive(Debug, Default)]
pub struct Recent {
    reading: Reading,
    /// Empty before the first duration.
    counts: Vec<f32>,
    total: f32,
}

impl Recent {
    /// Lets what it has count `keep` (0..=1) times as much as before, adds what was recorded since the
    /// last call, and says how many that were. Allocates only if there were any.
    pub fn update(&mut self, histograms: &PerWorker<Histogram>, keep: f32) -> u32 {
        self.counts.iter_mut().for_each(|n| *n *= keep);
        self.total *= keep;
        if self.reading.is_current(histograms.iter()) {
            return 0;
        }
        let reading = Reading::of(histograms.iter());
        let new = reading.since(&self.reading);
        self.reading = reading;
        self.counts.resize(BUCKETS, 0.0);
        let mut added = 0;
        for (i, n) in new.iter() {
            self.counts[i] += n as f32;
            added += n;
        }
        self.total += added as f32;
        added
    }

    /// How many it holds, older ones for less than one each.
    pub fn count(&self) -> f32 {
        self.total
    }

    /// The duration in µs that a share `q` (0..=1) does not exceed, interpolated within its bucket;
    /// `None` when it holds nothing.
    pub fn quantile(&self, q: f32) -> Option<f32> {
        let rank = q * self.total;
        let mut below = 0.0;
        let mut last = None;
        for (i, &n) in self.counts.iter().enumerate().filter(|(_, n)| **n > 0.0) {
            let (low, high) = (lower_bound(i) as f32, lower_bound(i + 1) as f32);
            if below + n >= rank {
                return Some(low + (high - low) * (rank - below) / n);
            }
            below += n;
            last = Some(high);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_workers_and_forgets_by_the_factor_given() {
        let histograms: PerWorker<Histogram> = PerWorker::new(2);
        let mut recent = Recent::default();
        assert_eq!((recent.update(&histograms, 1.0), recent.quantile(0.99)), (0, None));
        (0..60).for_each(|_| histograms.of(0).record(1000));
        (0..40).for_each(|_| histograms.of(1).record(9000));
        assert_eq!((recent.update(&histograms, 1.0), recent.count()), (100, 100.0));
        let within = |us: Option<f32>, low: f32, high: f32| {
            assert!(us.is_some_and(|us| (low..=high).contains(&us)), "{us:?}");
        };
        within(recent.quantile(0.5), 960.0, 1024.0);
        within(recent.quantile(0.99), 8192.0, 9216.0);
        // The old hundred count as one now, against a hundred new ones.
        (0..100).for_each(|_| histograms.of(0).record(50));
        assert_eq!(recent.update(&histograms, 0.01), 100);
        assert!((recent.count() - 101.0).abs() < 0.01);
        within(recent.quantile(0.98), 48.0, 52.0);
        assert_eq!(recent.update(&histograms, 1.0), 0);
    }
}
