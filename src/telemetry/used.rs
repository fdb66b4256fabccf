//! An array of bucket counts of which only the used stretch is kept.
//!
//! Durations of one backend lie close together: a few octaves of the 24 that a histogram has. Of ten
//! thousand backends the rest would be tens of megabytes of zeros.

use std::ops::Range;

/// Counts from the lowest to the highest bucket that was ever touched; the others are zero.
#[derive(Debug, Clone, Default)]
pub(super) struct Used<T> {
    first: usize,
    counts: Vec<T>,
}

impl<T: Copy + Default + PartialEq> Used<T> {
    /// A count for changing; makes room for it.
    pub(super) fn at(&mut self, i: usize) -> &mut T {
        if self.counts.is_empty() {
            self.first = i;
        }
        if i < self.first {
            let more = self.first - i;
            self.counts.reserve_exact(more);
            self.counts.splice(0..0, std::iter::repeat_n(T::default(), more));
            self.first = i;
        }
        let at = i - self.first;
        if at >= self.counts.len() {
            self.counts.reserve_exact(at + 1 - self.counts.len());
            self.counts.resize(at + 1, T::default());
        }
        &mut self.counts[at]
    }

    pub(super) fn get(&self, i: usize) -> T {
        i.checked_sub(self.first).and_then(|at| self.counts.get(at)).copied().unwrap_or_default()
    }

    /// The buckets that are kept.
    pub(super) fn range(&self) -> Range<usize> {
        self.first..self.first + self.counts.len()
    }

    /// Buckets that are not zero, in order, with their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, T)> {
        let numbered = self.range().zip(self.counts.iter().copied());
        numbered.filter(|(_, n)| *n != T::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_both_ways_and_keeps_no_more_than_that() {
        let mut used: Used<u64> = Used::default();
        assert_eq!((used.get(7), used.range()), (0, 0..0));
        for i in [100, 97, 103, 100] {
            *used.at(i) += 1;
        }
        assert_eq!(used.range(), 97..104);
        assert_eq!(used.iter().collect::<Vec<_>>(), [(97, 1), (100, 2), (103, 1)]);
        assert_eq!((used.get(96), used.get(98), used.get(100), used.get(191)), (0, 0, 2, 0));
        assert!(used.counts.capacity() <= 8, "{}", used.counts.capacity());
    }
}
