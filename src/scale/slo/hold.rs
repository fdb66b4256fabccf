//! The largest of the numbers of the last seconds.

use std::collections::VecDeque;

/// Numbers of a sliding window, one each second. Only those that can still become the largest
/// are kept, so that a tick costs the same however long the window is.
#[derive(Debug, Clone)]
pub(super) struct Needs {
    /// (tick, number): numbers fall from the front to the back.
    falling: VecDeque<(u64, u32)>,
    window: u64,
    ticks: u64,
}

impl Needs {
    /// `window`: a number still counts when it is so many seconds old.
    pub fn new(window: u32) -> Self {
        Self { falling: VecDeque::new(), window: u64::from(window), ticks: 0 }
    }

    /// The number of the next second.
    pub fn push(&mut self, n: u32) {
        self.keep(n);
        let oldest = self.ticks.saturating_sub(self.window);
        while self.falling.front().is_some_and(|(at, _)| *at < oldest) {
            self.falling.pop_front();
        }
        self.ticks += 1;
    }

    /// Forgets all; this number takes part in the second that is about to be pushed.
    pub fn restart(&mut self, n: u32) {
        self.falling.clear();
        self.keep(n);
    }

    /// The largest of the window; 0 before the first.
    pub fn most(&self) -> u32 {
        self.falling.front().map_or(0, |(_, n)| *n)
    }

    /// Numbers kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.falling.len()
    }

    fn keep(&mut self, n: u32) {
        while self.falling.back().is_some_and(|(_, smaller)| *smaller <= n) {
            self.falling.pop_back();
        }
        self.falling.push_back((self.ticks, n));
    }
}

#[cfg(test)]
mod tests {
    use super::Needs;

    #[test]
    fn the_largest_of_the_window_counts_and_then_leaves() {
        let mut needs = Needs::new(2);
        let most: Vec<u32> = [5, 2, 3, 1, 1, 1]
            .into_iter()
            .map(|n| {
                needs.push(n);
                needs.most()
            })
            .collect();
        assert_eq!(most, [5, 5, 5, 3, 3, 1]);
    }

    #[test]
    fn a_restart_forgets() {
        let mut needs = Needs::new(60);
        needs.push(50);
        needs.restart(4);
        needs.push(3);
        assert_eq!(needs.most(), 4);
    }
}
