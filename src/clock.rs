//! Time as a number, so that it can be passed in and tests can say what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

/// Microseconds since the clock was made; monotonic.
pub type Micros = u64;

/// Where time comes from. Cheap to clone; clones tell the same time.
#[derive(Debug, Clone)]
pub struct Clock {
    base: Instant,
    /// `base` as the system's monotonic clock has it.
    base_us: u64,
    wall_base: SystemTime,
    manual: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The machine's monotonic clock.
    pub fn real() -> Self {
        Self {
            base: Instant::now(),
            base_us: monotonic(),
            wall_base: SystemTime::now(),
            manual: None,
        }
    }

    /// A clock that stands still until [`Clock::advance`].
    pub fn manual(wall_base: SystemTime) -> Self {
        Self { base: Instant::now(), base_us: 0, wall_base, manual: Some(Arc::default()) }
    }

    #[inline]
    pub fn now(&self) -> Micros {
        match &self.manual {
            // Read several times a request; `Instant` would cost five times as much.
            None => monotonic().saturating_sub(self.base_us),
            Some(now) => now.load(Relaxed),
        }
    }

    /// Wall time of a moment of this clock (it follows the monotonic clock, not later steps of the system's).
    pub fn wall(&self, at: Micros) -> SystemTime {
        self.wall_base + Duration::from_micros(at)
    }

    /// The tokio deadline that belongs to a moment of this clock.
    pub fn instant(&self, at: Micros) -> Instant {
        self.base + Duration::from_micros(at)
    }

    /// Whether it only moves by [`Clock::advance`]: then waiting for a moment of it is no use.
    pub fn is_manual(&self) -> bool {
        self.manual.is_some()
    }

    /// Moves a manual clock on. A real one is not moved.
    pub fn advance(&self, by: Duration) {
        if let Some(now) = &self.manual {
            now.fetch_add(by.as_micros() as u64, Relaxed);
        }
    }
}

/// CLOCK_MONOTONIC in µs.
#[inline]
fn monotonic() -> u64 {
    match nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC) {
        Ok(time) => time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1000,
        // Linux has had this clock for ever; a clock that stands still is better than a panic.
        Err(_) => 0,
    }
}
