//! A script of thresholds: one backend more above 70 % CPU, one fewer below 20 %, every 15 s.
//!
//! It waits for a backend that starts before it asks for the next, as such scripts do.

use super::{Policy, Seen, Setting, Window};

pub(super) const PERIOD: u64 = 15;
pub(super) const ABOVE: f64 = 0.7;
pub(super) const BELOW: f64 = 0.2;

#[derive(Debug)]
pub(super) struct Linear {
    slots: f64,
    min: u32,
    max: u32,
    utilization: Window,
}

impl Linear {
    pub(super) fn new(setting: &Setting) -> Self {
        let utilization = Window::new(PERIOD as usize);
        Self { slots: setting.slots, min: setting.min, max: setting.max, utilization }
    }
}

impl Policy for Linear {
    fn tick(&mut self, seen: &Seen) -> u32 {
        self.utilization.push(seen.busy / (f64::from(seen.ready.max(1)) * self.slots));
        if !seen.second.is_multiple_of(PERIOD) || seen.size != seen.ready {
            return seen.size;
        }
        let size = match self.utilization.mean() {
            mean if mean > ABOVE => seen.size + 1,
            mean if mean < BELOW => seen.size.saturating_sub(1),
            _ => seen.size,
        };
        size.clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_up_one_down_and_none_while_one_starts() {
        let at = |busy: f64, ready, size| {
            let mut linear = Linear::new(&Setting::standard(30.0));
            linear.tick(&Seen { second: 15, busy, ready, size, ..Seen::default() })
        };
        assert_eq!([at(15.0, 5, 5), at(3.0, 5, 5), at(10.0, 5, 5)], [6, 4, 5]);
        assert_eq!([at(20.0, 5, 6), at(0.0, 2, 2)], [6, 2]);
    }
}
