//! Bytes that are read only to be thrown away: a courtesy, within bounds.

use std::cell::Cell;

use crate::clock::Micros;

/// Of one worker in one second. Some twenty clients that send what is too large all see their answers; of a flood
/// the rest are cut.
const MOST: usize = 16 << 20;

#[derive(Debug, Default)]
pub struct Waste {
    /// The present second, and what was thrown away in it.
    used: Cell<(u64, usize)>,
}

impl Waste {
    /// So many bytes were thrown away; whether more may be.
    pub fn add(&self, now: Micros, bytes: usize) -> bool {
        let second = now / 1_000_000;
        let (then, used) = self.used.get();
        let used = if then == second { used.saturating_add(bytes) } else { bytes };
        self.used.set((second, used));
        used < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own() {
        let waste = Waste::default();
        assert!(waste.add(0, MOST - 1));
        assert!(!waste.add(999_999, 1));
        assert!(waste.add(1_000_000, 1));
        assert!(!waste.add(1_000_000, usize::MAX));
    }
}
