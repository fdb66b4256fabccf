//! Bytes that are read only to be thrown away: a courtesy, within bounds. Above them a connection is not read any more, and
//! stays as it is until its time to linger is over: whoever floods, over and over on a few connections, has none meanwhile.

use std::cell::Cell;

use crate::clock::Micros;

/// Of one worker in one second. Some twenty clients that send what is too large are all heard out.
const MOST: usize = 16 << 20;
/// Connections of one worker that are not read; more are cut.
const HELD: usize = 512;

#[derive(Debug, Default)]
pub struct Waste {
    /// The present second, and what was thrown away in it.
    used: Cell<(u64, usize)>,
    held: Cell<usize>,
}

/// A connection that is not read any more; given back when dropped.
#[derive(Debug)]
pub struct Held<'a>(&'a Cell<usize>);

impl Waste {
    /// So many bytes were thrown away; whether more may be.
    pub fn add(&self, now: Micros, bytes: usize) -> bool {
        let second = now / 1_000_000;
        let (then, used) = self.used.get();
        let used = if then == second { used.saturating_add(bytes) } else { bytes };
        self.used.set((second, used));
        used < MOST
    }

    /// One more that is not read, unless there are too many.
    pub fn hold(&self) -> Option<Held<'_>> {
        let held = self.held.get();
        (held < HELD).then(|| {
            self.held.set(held + 1);
            Held(&self.held)
        })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
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
