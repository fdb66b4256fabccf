//! A script of thresholds that multiplies: × 1.5 above 70 % CPU, × 2 above 90 %, ÷ 1.5 below 20 %,
//! every 15 s. Like [`super::linear`] it waits for what starts.

use super::linear::{ABOVE, BELOW, PERIOD};
use super::{Policy, Seen, Setting, Window, ceil};

/// From here on it doubles.
const FAR_ABOVE: f64 = 0.9;

#[derive(Debug)]
pub(super) struct Exponential {
    slots: f64,
    min: u32,
    max: u32,
    utilization: Window,
}

impl Exponential {
    pub(super) fn new(setting: &Setting) -> Self {
        let utilization = Window::new(PERIOD as usize);
        Self { slots: setting.slots, min: setting.min, max: setting.max, utilization }
    }
}

impl Policy for Exponential {
    fn tick(&mut self, seen: &Seen) -> u32 {
        self.utilization.push(seen.busy / (f64::from(seen.ready.max(1)) * self.slots));
        if !seen.second.is_multiple_of(PERIOD) || seen.size != seen.ready {
            return seen.size;
        }
        let size = f64::from(seen.size);
        let size = match self.utilization.mean() {
            mean if mean > FAR_ABOVE => size * 2.0,
            mean if mean > ABOVE => size * 1.5,
            mean if mean < BELOW => (size / 1.5).floor(),
            _ => size,
        };
        ceil(size).clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_multiplies() {
        let at = |busy: f64, ready, size| {
            let mut exponential = Exponential::new(&Setting::standard(30.0));
            exponential.tick(&Seen { second: 15, busy, ready, size, ..Seen::default() })
        };
        assert_eq!([at(16.0, 5, 5), at(19.0, 5, 5), at(2.0, 5, 5)], [8, 10, 3]);
        assert_eq!([at(20.0, 5, 6), at(100.0, 50, 50), at(200.0, 50, 50)], [6, 50, 60]);
    }
}
