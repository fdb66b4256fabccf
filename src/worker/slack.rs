//! Memory of connections that went idle: when a lot of them did, it goes back to the system.
//!
//! A parked connection has given its codec and buffers back, but to the allocator, which keeps the pages of this
//! thread for the next time: 8,000 connections that did one request each went on costing 5 to 14 KB each instead of 3.

use std::cell::Cell;

/// Giving back takes some milliseconds of a worker, and pages that are needed again cost a fault each: it is done for no
/// fewer than so many connections (of some 20 KiB).
pub(super) const MANY: usize = 256;
/// And once more so many looks later: for the last of them, and for what another thread kept from being purged.
const AGAIN: u8 = 4;

/// Of one worker.
#[derive(Debug, Default)]
pub struct Slack {
    parked: Cell<usize>,
    /// The least that were parked since memory was given back, or as many as then.
    settled: Cell<usize>,
    /// Looks until then.
    again: Cell<u8>,
}

/// One parked connection; counts until it is dropped.
#[derive(Debug)]
pub struct Parked<'a>(&'a Slack);

impl Slack {
    pub fn park(&self) -> Parked<'_> {
        self.parked.set(self.parked.get() + 1);
        Parked(self)
    }

    /// One look: whether memory should be given back now. If so, it is taken for done.
    pub fn is_much(&self) -> bool {
        let again = self.again.get();
        if self.parked.get() >= self.settled.get() + MANY {
            self.settled.set(self.parked.get());
            self.again.set(AGAIN);
            return true;
        }
        self.again.set(again.saturating_sub(1));
        again == 1
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let left = self.0.parked.get() - 1;
        self.0.parked.set(left);
        self.0.settled.set(self.0.settled.get().min(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many looks, at which it was much.
    fn looks(slack: &Slack, count: usize) -> Vec<usize> {
        (0..count).filter(|_| slack.is_much()).collect()
    }

    #[test]
    fn many_that_go_idle_are_much_twice() {
        let slack = Slack::default();
        let mut parked: Vec<_> = (0..MANY - 1).map(|_| slack.park()).collect();
        assert!(looks(&slack, 10).is_empty());
        parked.push(slack.park());
        assert_eq!(looks(&slack, 10).len(), 2);
        // As many wake and go idle again: theirs is given back, too.
        parked.clear();
        parked.extend((0..MANY).map(|_| slack.park()));
        assert_eq!(looks(&slack, 10).len(), 2);
        // Some that come and go while others stay are not many.
        for _ in 0..10 {
            parked.truncate(MANY / 2);
            parked.extend((0..MANY / 2).map(|_| slack.park()));
            assert!(looks(&slack, 10).is_empty());
        }
    }
}
