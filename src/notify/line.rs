//! What waits to be told to one target: bounded, the oldest goes first when there is too much.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::admin::view::Event;

/// Events that wait at most. A target that takes one a second is then not two minutes behind.
pub const CAPACITY: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub struct Line {
    events: VecDeque<Arc<Event>>,
    /// Lost since it was told last.
    dropped: u64,
}

/// What goes out together.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub events: Vec<Arc<Event>>,
    /// Events before these that were lost.
    pub dropped: u64,
}

impl Line {
    /// Adds the newest; how many were lost for it.
    pub fn push(&mut self, event: Arc<Event>) -> u64 {
        let full = self.events.len() == CAPACITY;
        if full {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back(event);
        u64::from(full)
    }

    /// Events were lost before they came here.
    pub fn lost(&mut self, events: u64) {
        self.dropped += events;
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The oldest, so many at most; `None` if there are none.
    pub fn take(&mut self, most: usize) -> Option<Batch> {
        if self.events.is_empty() {
            return None;
        }
        let events = self.events.drain(..most.min(self.events.len())).collect();
        Some(Batch { events, dropped: std::mem::take(&mut self.dropped) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::event;

    #[test]
    fn the_oldest_go_when_there_are_too_many_and_that_is_told() {
        let mut line = Line::default();
        let lost: u64 = (0..CAPACITY as u64 + 3).map(|id| line.push(event(id, "scaled"))).sum();
        assert_eq!(lost, 3);
        line.lost(4);
        let batch = line.take(20).expect("there are some");
        assert_eq!((batch.events.len(), batch.events[0].id, batch.dropped), (20, 3, 7));
        let next = line.take(usize::MAX).expect("there are more");
        assert_eq!((next.events.len(), next.events[0].id, next.dropped), (CAPACITY - 20, 23, 0));
        assert!(line.take(1).is_none() && line.is_empty());
    }
}
