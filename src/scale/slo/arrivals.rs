//! Arrivals of the last seconds: means over windows, and how much noisier than Poisson they are.

use std::collections::VecDeque;

/// Seconds kept. Bounds the window in which a collapse is looked for.
const CAPACITY: usize = 600;
/// Seconds that the dispersion is taken over.
const NOISE_WINDOW: usize = 60;
/// Beyond this noise is not believed: a step would hide itself in it.
const MAX_DISPERSION: f64 = 4.0;

#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals {
    /// Oldest first; each with what it adds to the dispersion.
    seconds: VecDeque<(f64, f64)>,
    /// How many of the newest are of the present load.
    valid: u32,
    /// Seconds seen since the start.
    ticks: u64,
}

impl Arrivals {
    pub fn push(&mut self, count: f64) {
        // Half the squared difference to the second before is the variance, whatever the trend.
        // The very first one has none before it and counts as Poisson's.
        let noise = self.seconds.back().map_or(count, |(before, _)| (count - before).powi(2) / 2.0);
        if self.seconds.len() == CAPACITY {
            self.seconds.pop_front();
        }
        self.seconds.push_back((count, noise));
        self.valid = (self.valid + 1).min(CAPACITY as u32);
        self.ticks += 1;
    }

    /// Seconds of history that count.
    pub fn valid(&self) -> u32 {
        self.valid
    }

    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Only the newest seconds count from now on.
    pub fn forget_before(&mut self, seconds: u32) {
        self.valid = self.valid.min(seconds);
    }

    /// Mean per second over the newest seconds.
    pub fn mean(&self, seconds: u32) -> f64 {
        let sum: f64 = self.newest(seconds as usize).map(|(count, _)| count).sum();
        sum / f64::from(seconds.max(1))
    }

    /// Sum over the three seconds that end `ago` seconds before the newest.
    pub fn three(&self, ago: usize) -> f64 {
        self.seconds.iter().rev().skip(ago).take(3).map(|(count, _)| count).sum()
    }

    /// Index of dispersion, between 1 (Poisson) and 4.
    pub fn dispersion(&self) -> f64 {
        let (counts, noise) = self
            .newest(NOISE_WINDOW)
            .fold((0.0, 0.0), |(counts, noise), (count, more)| (counts + count, noise + more));
        if counts > 0.0 { (noise / counts).clamp(1.0, MAX_DISPERSION) } else { 1.0 }
    }

    fn newest(&self, seconds: usize) -> impl Iterator<Item = &(f64, f64)> {
        self.seconds.iter().rev().take(seconds)
    }
}

/// A window of whole seconds that the history can hold with ten seconds to spare.
pub(super) fn clamp_window(seconds: f64) -> u32 {
    seconds.clamp(1.0, (CAPACITY - 10) as f64) as u32
}
