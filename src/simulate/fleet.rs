//! The backends: ordered, ready after the lead time, removed at once, those that start first.

use std::collections::VecDeque;

/// How many there are, and when the ordered ones will be ready.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    ready: u32,
    /// Seconds at which the starting ones are ready, in the order of their orders.
    starting: VecDeque<f64>,
}

impl Fleet {
    pub fn new(ready: u32) -> Self {
        Self { ready, starting: VecDeque::new() }
    }

    pub fn ready(&self) -> u32 {
        self.ready
    }

    /// Ready and starting: what is paid for.
    pub fn size(&self) -> u32 {
        self.ready + self.starting.len() as u32
    }

    /// Makes those ready whose time has come.
    pub fn advance(&mut self, now: f64) {
        let before = self.starting.len();
        self.starting.retain(|at| *at > now + 1e-9);
        self.ready += (before - self.starting.len()) as u32;
    }

    /// Orders what is missing; takes away the newest of those that start, then ready ones.
    pub fn resize(&mut self, size: u32, ready_at: f64) {
        while self.size() < size {
            self.starting.push_back(ready_at);
        }
        while self.size() > size {
            if self.starting.pop_back().is_none() {
                self.ready = size;
            }
        }
    }

    /// So many are ready at once, as for who has no lead time.
    pub fn set(&mut self, size: u32) {
        self.starting.clear();
        self.ready = size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_start_is_called_off_first() {
        let mut fleet = Fleet::new(2);
        fleet.resize(4, 5.0);
        fleet.resize(5, 7.0);
        assert_eq!((fleet.ready(), fleet.size()), (2, 5));
        fleet.resize(4, 8.0);
        fleet.advance(4.9);
        assert_eq!((fleet.ready(), fleet.size()), (2, 4));
        fleet.advance(5.0);
        assert_eq!((fleet.ready(), fleet.size()), (4, 4));
        fleet.resize(1, 9.0);
        assert_eq!((fleet.ready(), fleet.size()), (1, 1));
    }
}
