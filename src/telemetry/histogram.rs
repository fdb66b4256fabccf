//! Log-linear histograms of durations: one writer on the data plane, merged on the control plane.
//!
//! Eight buckets to an octave from 1 µs to 60 s, so a bucket is at most 12.5 % wide and a value
//! read from its middle is at most 6.25 % off. 192 counters of 32 bits: under 1 KB, and only made at first
//! use. Counters wrap; the control plane works with differences, which are right as long as it looks
//! before 2³² values have fallen into one bucket.

use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::used::Used;

/// Number of buckets: 8 below 8 µs, one µs wide each, then 23 octaves of 8.
pub const BUCKETS: usize = 192;
/// Longest duration that is told apart, in µs. Longer ones are counted as this.
pub const MAX_US: u64 = 60_000_000;

/// Durations recorded by one worker. Empty, it is two words.
#[derive(Debug, Default)]
pub struct Histogram(OnceLock<Box<Cells>>);

#[derive(Debug)]
struct Cells {
    buckets: [AtomicU32; BUCKETS],
    /// µs, not capped. Each value adds at least 1 and is in its bucket before, so who finds the
    /// sum unchanged need not look at the buckets.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one duration, in µs.
    #[inline]
    pub fn record(&self, us: u64) {
        let cells = self.0.get_or_init(Cells::new);
        let bucket = &cells.buckets[index(us)];
        bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
        cells.sum.store(cells.sum.load(Relaxed).wrapping_add(us.max(1)), Release);
    }

    /// Adds what was recorded so far to a reading.
    fn read_into(&self, reading: &mut Reading) {
        let Some(cells) = self.0.get() else { return };
        // Before the buckets: what comes in between is in them, and the next look finds another sum.
        reading.sum = reading.sum.wrapping_add(cells.sum.load(Acquire));
        for (i, bucket) in cells.buckets.iter().enumerate() {
            let n = bucket.load(Relaxed);
            if n > 0 {
                let total = reading.buckets.at(i);
                *total = total.wrapping_add(n);
            }
        }
    }

    /// Sum of all durations so far, in µs, wrapping.
    fn sum(&self) -> u64 {
        self.0.get().map_or(0, |cells| cells.sum.load(Acquire))
    }

    /// Whether anything was ever recorded.
    pub fn is_used(&self) -> bool {
        self.0.get().is_some()
    }
}

impl Cells {
    #[cold]
    fn new() -> Box<Self> {
        Box::new(Self {
            buckets: std::array::from_fn(|_| AtomicU32::new(0)),
            sum: AtomicU64::new(0),
        })
    }
}

/// Sum over workers of the raw, wrapping counters.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    buckets: Used<u32>,
    sum: u64,
}

impl Reading {
    /// All workers' histograms together.
    pub fn of<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Self {
        let mut reading = Self::default();
        histograms.into_iter().for_each(|h| h.read_into(&mut reading));
        reading
    }

    /// Whether nothing was recorded since this reading of the same histograms.
    pub fn is_current<'a>(&self, histograms: impl IntoIterator<Item = &'a Histogram>) -> bool {
        histograms.into_iter().fold(0_u64, |sum, h| sum.wrapping_add(h.sum())) == self.sum
    }

    /// What was recorded between `earlier` and this reading of the same histograms.
    pub fn since(&self, earlier: &Self) -> Sparse {
        // A counter that wrapped to zero is not among ours any more.
        let seen = self.buckets.range().start.min(earlier.buckets.range().start)
            ..self.buckets.range().end.max(earlier.buckets.range().end);
        let change = |i: usize| self.buckets.get(i).wrapping_sub(earlier.buckets.get(i));
        Sparse {
            buckets: seen.map(|i| (i as u8, change(i))).filter(|(_, n)| *n > 0).collect(),
            sum: self.sum.wrapping_sub(earlier.sum),
        }
    }
}

/// What was recorded in some time: only the buckets that got something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sparse {
    buckets: Box<[(u8, u32)]>,
    sum: u64,
}

impl Sparse {
    /// Of durations in µs, each with how many took it; for what is not recorded one by one.
    pub fn of(durations: impl IntoIterator<Item = (u64, u32)>) -> Self {
        let mut reading = Reading::default();
        for (us, n) in durations.into_iter().filter(|(_, n)| *n > 0) {
            let total = reading.buckets.at(index(us));
            *total = total.wrapping_add(n);
            reading.sum = reading.sum.wrapping_add(us.max(1) * u64::from(n));
        }
        reading.since(&Reading::default())
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Buckets with how many fell into each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u32)> {
        self.buckets.iter().map(|&(i, n)| (usize::from(i), n))
    }
}

/// Durations of a window or of a whole life, merged over workers.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    buckets: Used<u64>,
    count: u64,
    sum: u64,
}

impl Merged {
    pub fn add(&mut self, part: &Sparse) {
        for &(i, n) in &part.buckets {
            *self.buckets.at(usize::from(i)) += u64::from(n);
            self.count += u64::from(n);
        }
        self.sum = self.sum.wrapping_add(part.sum);
    }

    /// Counts one duration, in µs; for what happens on the control plane itself.
    pub fn record(&mut self, us: u64) {
        *self.buckets.at(index(us)) += 1;
        self.count += 1;
        self.sum = self.sum.wrapping_add(us);
    }

    pub fn merge(&mut self, other: &Self) {
        for (i, n) in other.buckets.iter() {
            *self.buckets.at(i) += n;
        }
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// µs
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Mean in µs; `None` when nothing was recorded.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The duration in µs that a share `q` (0..=1) of the recorded ones does not exceed, interpolated
    /// within its bucket; `None` when nothing was recorded.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).max(1.0);
        let mut below = 0.0;
        for (i, n) in self.buckets.iter() {
            if below + n as f64 >= rank {
                let (low, high) = (lower_bound(i) as f64, lower_bound(i + 1) as f64);
                return Some((low + (high - low) * (rank - below) / n as f64).min(MAX_US as f64));
            }
            below += n as f64;
        }
        Some(MAX_US as f64)
    }

    /// The middle of each bucket that got something in µs, with how many fell into it.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let middle = |i| lower_bound(i).midpoint(lower_bound(i + 1)) as f64;
        self.buckets.iter().filter(|(_, n)| *n > 0).map(move |(i, n)| (middle(i), n))
    }

    /// How many are at most `us`. Exact where `us` is a bucket's bound, else the bucket that holds it
    /// counts by the share of it that lies below.
    pub fn count_at_most(&self, us: u64) -> u64 {
        if us >= MAX_US {
            return self.count;
        }
        let at = index(us);
        let below: u64 = self.buckets.iter().take_while(|(i, _)| *i < at).map(|(_, n)| n).sum();
        let (low, high) = (lower_bound(at), lower_bound(at + 1));
        let share = (us - low) as f64 / (high - low) as f64;
        below + (self.buckets.get(at) as f64 * share) as u64
    }
}

/// Bucket of a duration in µs.
#[inline]
fn index(us: u64) -> usize {
    let us = us.min(MAX_US);
    if us < 8 {
        return us as usize;
    }
    let octave = us.ilog2() as usize; // 3..=25
    let step = (us >> (octave - 3)) as usize & 7;
    (octave - 2) * 8 + step
}

/// Smallest duration in µs that falls into a bucket.
pub(super) fn lower_bound(index: usize) -> u64 {
    if index < 8 {
        return index as u64;
    }
    let octave = index / 8 + 2;
    (8 + (index as u64 & 7)) << (octave - 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(values: impl IntoIterator<Item = u64>) -> Merged {
        let histogram = Histogram::default();
        values.into_iter().for_each(|us| histogram.record(us));
        let mut merged = Merged::default();
        merged.add(&Reading::of([&histogram]).since(&Reading::default()));
        merged
    }

    #[test]
    fn every_duration_falls_between_the_bounds_of_its_bucket() {
        for us in (0..5000).chain((1..4000).map(|i| i * 15_000)) {
            let i = index(us);
            assert!(lower_bound(i) <= us && us < lower_bound(i + 1), "{us} in bucket {i}");
            let width = lower_bound(i + 1) - lower_bound(i);
            assert!(width == 1 || width * 8 <= lower_bound(i), "{us}: {width} wide");
        }
        assert!(index(u64::MAX) < BUCKETS);
    }

    #[test]
    fn an_unused_histogram_holds_nothing_and_a_used_one_stays_small() {
        assert!(size_of::<Histogram>() <= 16);
        assert!(size_of::<Cells>() < 1024);
        assert!(!Histogram::default().is_used());
        assert_eq!(merged([]).quantile(0.5), None);
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_exact_ones() {
        let merged = merged((1..=100_000).map(|i| i * 10));
        for q in [0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (got, exact) = (merged.quantile(q).expect("values"), q * 1_000_000.0);
            assert!((got / exact - 1.0).abs() < 0.07, "q {q}: {got} for {exact}");
        }
        assert_eq!(merged.mean(), Some(500_005.0));
        let below = merged.count_at_most(250_000) as f64;
        assert!((below / 25_000.0 - 1.0).abs() < 0.01, "{below}");
        assert_eq!(merged.count_at_most(u64::MAX), 100_000);
    }

    #[test]
    fn differences_survive_a_counter_that_wraps() {
        let mut before = Reading::default();
        *before.buckets.at(index(100)) = u32::MAX;
        before.sum = u64::MAX;
        let mut after = before.clone();
        *after.buckets.at(index(100)) = 1;
        after.sum = 199;
        let mut merged = Merged::default();
        merged.add(&after.since(&before));
        assert_eq!((merged.count(), merged.sum()), (2, 200));
    }

    #[test]
    fn many_of_one_duration_are_as_if_recorded_one_by_one() {
        let histogram = Histogram::default();
        for us in [0, 90, 5000, 90, 90] {
            histogram.record(us);
        }
        let recorded = Reading::of([&histogram]).since(&Reading::default());
        assert_eq!(Sparse::of([(5000, 1), (0, 1), (70, 0), (90, 3)]), recorded);
    }

    #[test]
    fn a_reading_is_current_until_something_is_recorded_even_if_it_took_no_time() {
        let workers = [Histogram::default(), Histogram::default()];
        let before = Reading::of(&workers);
        assert!(before.is_current(&workers));
        workers[1].record(0);
        assert!(!before.is_current(&workers));
        let now = Reading::of(&workers);
        assert!(now.is_current(&workers));
        assert_eq!(now.since(&before).buckets[..], [(0, 1)]);
        assert!(now.since(&now).is_empty());
    }
}
