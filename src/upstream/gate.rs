//! The pick/drain protocol: whether a backend takes requests, and how many it has.
//!
//! A pick adds itself to `in_flight` first and reads the state afterwards; a drain writes the
//! state first and reads `in_flight` afterwards. Both are sequentially consistent, so at least
//! one of the two sees the other: a backend that was seen draining and idle stays idle.
//! Checked with loom in tests/loom.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering};

/// Where a backend stands in its life. Unhealthy and ejected are conditions of `Ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum State {
    /// Ordered from the orchestrator, nothing there yet.
    Pending = 0,
    /// There, but has not passed its first check.
    Starting = 1,
    Ready = 2,
    /// No new picks; what runs is finished.
    Draining = 3,
    Gone = 4,
}

const STATE: u32 = 0b111;
const UNHEALTHY: u32 = 0b1000;
const EJECTED: u32 = 0b1_0000;

/// State and in-flight count of one backend, shared by all workers and the control plane.
#[derive(Debug)]
pub struct Gate {
    word: AtomicU32,
    in_flight: AtomicU32,
}

impl Gate {
    pub fn new(state: State) -> Self {
        Self { word: AtomicU32::new(state as u32), in_flight: AtomicU32::new(0) }
    }

    /// Ready, healthy and not ejected: what picking looks at first. A hint until [`Gate::enter`] confirms it.
    #[inline]
    pub fn is_available(&self) -> bool {
        self.word.load(Ordering::Relaxed) == State::Ready as u32
    }

    /// Ready, whatever its health: what panic mode looks at.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.word.load(Ordering::Relaxed) & STATE == State::Ready as u32
    }

    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes a place for one request. False: it is not ready (any more), and nothing was taken.
    #[inline]
    pub fn enter(&self) -> bool {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        if self.is_ready_now() {
            return true;
        }
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        false
    }

    /// Takes a place for one request unless so many are taken; 0 = no limit. At no moment are there more, so
    /// nobody finds it full because of one who was refused.
    #[inline]
    pub fn enter_below(&self, most: u32) -> bool {
        if most == 0 {
            return self.enter();
        }
        let mut taken = self.in_flight.load(Ordering::SeqCst);
        while taken < most {
            let next = taken + 1;
            match self.in_flight.compare_exchange(taken, next, Ordering::SeqCst, Ordering::SeqCst) {
                Err(seen) => taken = seen,
                Ok(_) if self.is_ready_now() => return true,
                Ok(_) => {
                    taken = self.in_flight.fetch_sub(1, Ordering::SeqCst) - 1;
                    // If it became ready meanwhile, somebody may have seen it full with this place.
                    if !self.is_ready_now() {
                        return false;
                    }
                }
            }
        }
        false
    }

    #[inline]
    fn is_ready_now(&self) -> bool {
        fence_in_model();
        self.word.load(Ordering::SeqCst) & STATE == State::Ready as u32
    }

    /// Gives the place back.
    #[inline]
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Read after [`Gate::set_state`]`(Draining)`: true means no request runs and none will start.
    pub fn is_idle(&self) -> bool {
        fence_in_model();
        self.in_flight.load(Ordering::SeqCst) == 0
    }

    pub fn state(&self) -> State {
        match self.word.load(Ordering::SeqCst) & STATE {
            0 => State::Pending,
            1 => State::Starting,
            2 => State::Ready,
            3 => State::Draining,
            _ => State::Gone,
        }
    }

    pub fn is_healthy(&self) -> bool {
        self.word.load(Ordering::Relaxed) & UNHEALTHY == 0
    }

    pub fn is_ejected(&self) -> bool {
        self.word.load(Ordering::Relaxed) & EJECTED != 0
    }

    /// Moves to another state and keeps the conditions. Control plane only (one writer at a time).
    pub fn set_state(&self, state: State) {
        self.update(|word| word & !STATE | state as u32);
    }

    pub fn set_healthy(&self, healthy: bool) {
        self.update(|word| if healthy { word & !UNHEALTHY } else { word | UNHEALTHY });
    }

    pub fn set_ejected(&self, ejected: bool) {
        self.update(|word| if ejected { word | EJECTED } else { word & !EJECTED });
    }

    fn update(&self, f: impl Fn(u32) -> u32) {
        let mut word = self.word.load(Ordering::SeqCst);
        while let Err(seen) =
            self.word.compare_exchange(word, f(word), Ordering::SeqCst, Ordering::SeqCst)
        {
            word = seen;
        }
    }
}

/// Loom takes SeqCst accesses for AcqRel ones, which is too weak here and gives false alarms; in the model
/// a fence stands for the one total order that SeqCst accesses have by definition.
#[inline(always)]
fn fence_in_model() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}
