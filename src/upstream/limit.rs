//! The learned limit of one backend: how many requests it may have in flight.
//!
//! Written by the control plane, which learns it (`overload`), read by picks. What it is learned from is
//! [`Work`](crate::telemetry::Work).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Of a limit: who finds so many in flight finds it nearly reached.
const NEAR: f32 = 0.9;

/// One word, so that a pick reads both of one moment.
#[derive(Debug)]
pub struct Limit(AtomicU64);

/// What a pick reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Most requests in flight; 0: no limit.
    pub most: u32,
    /// Who has no more company than this, itself included, waits for nobody.
    pub low: u32,
}

impl Default for Limit {
    fn default() -> Self {
        Self(AtomicU64::new(Terms::default().pack()))
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self { most: 0, low: 1 }
    }
}

impl Limit {
    #[inline]
    pub fn get(&self) -> Terms {
        let word = self.0.load(Relaxed);
        Terms { most: word as u32, low: (word >> 32) as u32 }
    }

    #[inline]
    pub fn most(&self) -> u32 {
        self.0.load(Relaxed) as u32
    }

    /// Writes only what changes: the line stays in everybody's cache.
    pub fn set(&self, terms: Terms) {
        if self.get() != terms {
            self.0.store(terms.pack(), Relaxed);
        }
    }
}

impl Terms {
    fn pack(self) -> u64 {
        u64::from(self.low) << 32 | u64::from(self.most)
    }

    /// With so many in flight the limit is nearly reached.
    #[inline]
    pub fn is_near(self, in_flight: u32) -> bool {
        self.most != 0 && in_flight as f32 >= NEAR * self.most as f32
    }
}
