//! Who knows every rate beforehand and needs no time to start anything: the measure of cost.
//!
//! It has the least backends of every second that keep 99 % of requests within the budget and
//! utilization below 90 %. No policy can be it.

use super::{Policy, Seen, Setting};

#[derive(Debug)]
pub(super) struct Oracle {
    setting: Setting,
    /// The last rate and its need: rates seldom change.
    last: (f64, u32),
}

impl Oracle {
    pub(super) fn new(setting: &Setting) -> Self {
        Self { setting: setting.clone(), last: (0.0, setting.need(0.0)) }
    }
}

impl Policy for Oracle {
    fn tick(&mut self, seen: &Seen) -> u32 {
        seen.size
    }

    fn foresee(&mut self, rate: f64) -> Option<u32> {
        if rate != self.last.0 {
            self.last = (rate, self.setting.need(rate));
        }
        Some(self.last.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_need_of_each_rate() {
        let setting = Setting::standard(90.0);
        let mut oracle = Oracle::new(&setting);
        let sizes = [60.0, 1000.0, 1000.0, 60.0].map(|rate| oracle.foresee(rate));
        assert_eq!(sizes, [Some(2), Some(28), Some(28), Some(2)]);
    }
}
