//! As many as the highest rate of the load needs, all the time: what one pays without a scaler.

use super::{Policy, Seen};

#[derive(Debug)]
pub(super) struct Fixed(pub(super) u32);

impl Policy for Fixed {
    fn tick(&mut self, _seen: &Seen) -> u32 {
        self.0
    }

    /// It was there before the load.
    fn foresee(&mut self, _rate: f64) -> Option<u32> {
        Some(self.0)
    }
}
