//! The HPA's `behavior` with its defaults, which KEDA inherits.
//!
//! Source: Kubernetes documentation, "Horizontal Pod Autoscaling", section "Default behavior":
//! up at once, by at most 100 % or 4 pods in 15 s, whichever is more; down to the largest wish of the
//! last 300 s.

use std::collections::VecDeque;

/// `stabilizationWindowSeconds` of scaleDown.
const WINDOW: u64 = 300;
/// `periodSeconds` of both rules of scaleUp.
const PERIOD: u64 = 15;
const PODS: u32 = 4;
/// 100 %.
const FACTOR: u32 = 2;

/// What it remembers: wishes and what was added.
#[derive(Debug, Clone, Default)]
pub(super) struct Behaviour {
    wishes: VecDeque<(u64, u32)>,
    added: VecDeque<(u64, u32)>,
}

impl Behaviour {
    /// The size for a wish.
    pub(super) fn bound(&mut self, now: u64, current: u32, wish: u32, min: u32, max: u32) -> u32 {
        self.wishes.push_back((now, wish));
        while self.wishes.front().is_some_and(|(at, _)| at + WINDOW < now) {
            self.wishes.pop_front();
        }
        while self.added.front().is_some_and(|(at, _)| at + PERIOD <= now) {
            self.added.pop_front();
        }
        let stable = match wish < current {
            true => self.wishes.iter().map(|(_, n)| *n).max().unwrap_or(wish).min(current),
            false => wish,
        };
        let size = stable.min(self.limit(current)).clamp(min, max);
        if size > current {
            self.added.push_back((now, size - current));
        }
        size
    }

    /// The most that the rules of scaleUp allow now.
    fn limit(&self, current: u32) -> u32 {
        let added: u32 = self.added.iter().map(|(_, n)| n).sum();
        let before = current.saturating_sub(added);
        (before + PODS).max(before * FACTOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_is_limited_to_double_or_four_more_in_15_s() {
        let mut behaviour = Behaviour::default();
        assert_eq!(behaviour.bound(0, 2, 50, 1, 100), 6);
        assert_eq!(behaviour.bound(7, 6, 50, 1, 100), 6, "still the same period");
        assert_eq!(behaviour.bound(15, 6, 50, 1, 100), 12);
        assert_eq!(behaviour.bound(30, 12, 50, 1, 20), 20, "and by the maximum");
    }

    #[test]
    fn down_is_the_largest_wish_of_five_minutes() {
        let mut behaviour = Behaviour::default();
        assert_eq!(behaviour.bound(0, 10, 10, 1, 100), 10);
        assert_eq!(behaviour.bound(15, 10, 4, 1, 100), 10);
        assert_eq!(behaviour.bound(300, 10, 2, 1, 100), 10);
        assert_eq!(behaviour.bound(301, 10, 2, 1, 100), 4);
        assert_eq!(behaviour.bound(616, 4, 2, 1, 100), 2);
    }
}
