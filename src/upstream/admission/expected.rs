//! Capacity that a service's scaler brings soon: while it is expected, requests wait that would be turned away otherwise.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::clock::Micros;

/// See the module. Two words that need not be of the same moment: both only say how long it is worth to wait.
#[derive(Debug, Default)]
pub struct Expected {
    /// Until when; 0: nothing is expected.
    until: AtomicU64,
    /// How many times the present capacity there will be then, in hundredths.
    times: AtomicU32,
}

impl Expected {
    /// `times`: at least 1.
    pub fn set(&self, until: Micros, times: f64) {
        self.times.store((times.max(1.0) * 100.0) as u32, Relaxed);
        self.until.store(until, Relaxed);
    }

    /// How many times the present capacity is expected; `None`: no more than there is.
    pub fn get(&self, now: Micros) -> Option<f64> {
        (now < self.until.load(Relaxed)).then(|| f64::from(self.times.load(Relaxed)) / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_expected_for_a_time() {
        let expected = Expected::default();
        assert_eq!(expected.get(0), None);
        expected.set(1_000_000, 4.0);
        assert_eq!(expected.get(999_999), Some(4.0));
        assert_eq!(expected.get(1_000_000), None);
        expected.set(2_000_000, 0.5);
        assert_eq!(expected.get(1_000_000), Some(1.0), "what there is stays");
    }
}
