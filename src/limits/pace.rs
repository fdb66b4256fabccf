//! `rate_bytes`: so many bytes of one body a second.
//!
//! A body is cut into pieces of an eighth of a second each, so that it flows evenly, and the next piece waits until
//! the one before is paid for: over any time t at most rate × t and one piece. Nothing is saved up. Who waits, and on
//! which timer, is the body's.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Micros;

/// Pieces a second.
const PIECES: u64 = 8;
const SECOND: u64 = 1_000_000;

/// One body on its way.
#[derive(Debug)]
pub struct Pace {
    /// Bytes a second, 1 or more.
    rate: u64,
    /// When the next piece may pass.
    next: Micros,
    /// What is here, and may not pass yet.
    left: Bytes,
}

impl Pace {
    /// `rate` in bytes a second.
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), next: 0, left: Bytes::new() }
    }

    /// How long nothing may pass; `None`: it may now.
    pub fn wait(&self, now: Micros) -> Option<Duration> {
        let wait = self.next.checked_sub(now).filter(|wait| *wait > 0);
        wait.map(Duration::from_micros)
    }

    /// The first piece of what came; the rest is kept. Only when nothing is kept.
    pub fn pass(&mut self, data: Bytes, now: Micros) -> Bytes {
        self.left = data;
        self.piece(now).unwrap_or_default()
    }

    /// The next piece of what is kept, if anything is.
    pub fn piece(&mut self, now: Micros) -> Option<Bytes> {
        if self.left.is_empty() {
            return None;
        }
        let most = usize::try_from(self.rate.div_ceil(PIECES)).unwrap_or(usize::MAX);
        let piece = self.left.split_to(most.min(self.left.len()));
        let cost = (piece.len() as u64).saturating_mul(SECOND).div_ceil(self.rate);
        self.next = self.next.max(now).saturating_add(cost);
        Some(piece)
    }

    /// Bytes that are kept.
    pub fn left(&self) -> usize {
        self.left.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_follow_each_other_evenly() {
        let mut pace = Pace::new(8000);
        assert_eq!((pace.wait(0), pace.pass(vec![0; 2500].into(), 0).len()), (None, 1000));
        assert_eq!((pace.left(), pace.wait(0)), (1500, Some(Duration::from_millis(125))));
        assert_eq!(pace.piece(125_000).map(|piece| piece.len()), Some(1000));
        assert_eq!(pace.piece(250_000).map(|piece| piece.len()), Some(500));
        assert_eq!(pace.piece(312_500), None);
        assert_eq!(pace.wait(312_499), Some(Duration::from_micros(1)));
        assert_eq!(pace.wait(312_500), None);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_one_piece(
            rate in 1u64..2_000_000,
            steps in prop::collection::vec((0u64..300_000, 0usize..400_000), 1..100),
        ) {
            let (mut pace, mut now) = (Pace::new(rate), 7);
            let mut passed: Vec<(Micros, u64)> = Vec::new();
            let (mut came, mut went) = (0, 0);
            for (step, bytes) in steps {
                now += step;
                if pace.wait(now).is_some() {
                    continue;
                }
                let piece = match pace.piece(now) {
                    Some(piece) => piece,
                    None => {
                        came += bytes;
                        pace.pass(vec![0; bytes].into(), now)
                    }
                };
                went += piece.len();
                passed.push((now, piece.len() as u64));
            }
            prop_assert_eq!(came, went + pace.left());
            for (first, (from, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for (to, bytes) in &passed[first..] {
                    sum += bytes;
                    let most = rate.div_ceil(PIECES) as f64 + rate as f64 * (to - from) as f64 / 1e6;
                    prop_assert!(sum as f64 <= most + 1e-6 * rate as f64 + 1.0);
                }
            }
        }
    }
}
