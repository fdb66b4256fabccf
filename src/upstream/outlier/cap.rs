//! How many backends of a service may be ejected at once: one word for all who eject.
//!
//! A place is taken before a backend is ejected and given back after it is back, so there are never more
//! ejected than places taken. The most there may be is computed again for each attempt: who loses the race
//! for a place looks at the pool anew. Checked with loom in tests/loom.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering::SeqCst};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Places taken. Shared by the service and its backends: a backend that is dropped gives its own back.
#[derive(Debug, Default)]
pub struct Cap {
    taken: AtomicU32,
}

impl Cap {
    #[inline]
    pub fn taken(&self) -> u32 {
        self.taken.load(SeqCst)
    }

    /// Takes a place if fewer than `most()` are taken, and keeps it if `eject` does. `None`: nothing changed.
    pub fn take<T>(&self, most: impl Fn() -> u32, eject: impl FnOnce() -> Option<T>) -> Option<T> {
        let mut taken = self.taken();
        loop {
            if taken >= most() {
                return None;
            }
            match self.taken.compare_exchange(taken, taken + 1, SeqCst, SeqCst) {
                Ok(_) => break,
                Err(seen) => taken = seen,
            }
        }
        let ejected = eject();
        if ejected.is_none() {
            self.give_back();
        }
        ejected
    }

    /// The place of one that is ejected no more.
    pub fn give_back(&self) {
        let before = self.taken.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "a place was given back twice");
    }
}
