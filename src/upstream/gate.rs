//! The pick/drain protocol: whether a backend takes requests, and how many it has.
//!
//! A pick adds itself to `in_flight` first and reads the state afterwards; a drain writes the
//! state first and reads `in_flight` afterwards. Both are sequentially consistent, so at least
//! one of the two sees the other: a backend that was seen draining and idle stays idle.
//! Checked with loom in tests/loom.
//!
//! State, conditions and the terms of an ejection are one word. So every step of an ejection is one
//! compare-exchange that somebody wins, and none outlives `Ready`: a drain ends it in the same step. Who may
//! be ejected, for how long and why is left to [`outlier`](super::outlier).

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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

/// The terms of an ejection; what is left of them when it is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// Number of the reason, 0..8.
    pub reason: u8,
    /// How often it was ejected, forgiveness taken off.
    pub times: u16,
    /// While ejected: when it is tried again. Afterwards: when it came back; 0 = it never was out. In ms of
    /// the process clock, 40 bits (34 years).
    pub moment: u64,
}

const STATE: u64 = 0b111;
const READY: u64 = State::Ready as u64;
const UNHEALTHY: u64 = 1 << 3;
const EJECTED: u64 = 1 << 4;
/// What must be exactly `READY` for a backend to be picked.
const CONDITION: u64 = STATE | UNHEALTHY | EJECTED;
const REASON: u32 = 5;
const TIMES: u32 = 8;
const MOMENT: u32 = 24;

/// State and in-flight count of one backend, shared by all workers and the control plane.
#[derive(Debug)]
pub struct Gate {
    word: AtomicU64,
    in_flight: AtomicU32,
}

impl Gate {
    pub fn new(state: State) -> Self {
        Self { word: AtomicU64::new(state as u64), in_flight: AtomicU32::new(0) }
    }

    /// Ready, healthy and not ejected: what picking looks at first. A hint until [`Gate::enter`] confirms it.
    #[inline]
    pub fn is_available(&self) -> bool {
        self.word.load(Ordering::Relaxed) & CONDITION == READY
    }

    /// Ready and healthy, ejected or not: what may serve when nobody is available.
    #[inline]
    pub fn is_healthy_and_ready(&self) -> bool {
        self.word.load(Ordering::Relaxed) & (STATE | UNHEALTHY) == READY
    }

    /// Ready, whatever its health: what panic mode looks at.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.word.load(Ordering::Relaxed) & STATE == READY
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
        self.word.load(Ordering::SeqCst) & STATE == READY
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

    /// Moves to another state and keeps the conditions, but for an ejection: it does not outlive `Ready`.
    /// True: it ended one, whose place must be given back. Control plane only (one writer at a time).
    #[must_use]
    pub fn set_state(&self, state: State) -> bool {
        let kept = if state == State::Ready { !STATE } else { !(STATE | EJECTED) };
        let before = self.update(|word| Some(word & kept | state as u64));
        state != State::Ready && before.is_some_and(|word| word & EJECTED != 0)
    }

    pub fn set_healthy(&self, healthy: bool) {
        self.update(|word| Some(if healthy { word & !UNHEALTHY } else { word | UNHEALTHY }));
    }

    /// Ejects a backend that is available, on the terms that `terms` makes of those before. `None`: it is not
    /// available, nothing was changed.
    pub fn eject(&self, terms: impl Fn(Terms) -> Terms) -> Option<Terms> {
        let next = |word| terms(Terms::of(word));
        let before = self.update(|word| {
            (word & CONDITION == READY).then(|| next(word).into_word(word) | EJECTED)
        });
        before.map(next)
    }

    /// Sets other terms for one that is ejected. `None`: it is not (any more), or `terms` wants no change.
    pub fn prolong(&self, terms: impl Fn(Terms) -> Option<Terms>) -> Option<Terms> {
        let before = self.update(|word| {
            let terms = terms(Terms::of(word)).filter(|_| word & EJECTED != 0)?;
            Some(terms.into_word(word))
        });
        before.and_then(|word| terms(Terms::of(word)))
    }

    /// Ends an ejection at `now` (in ms), if `when` agrees with its terms. True: it did, and its place must be
    /// given back.
    #[must_use]
    pub fn uneject(&self, now: u64, when: impl Fn(Terms) -> bool) -> bool {
        let before = self.update(|word| {
            let terms = Terms::of(word);
            let ends = word & EJECTED != 0 && when(terms);
            ends.then(|| Terms { moment: now, ..terms }.into_word(word) & !EJECTED)
        });
        before.is_some()
    }

    /// The terms of the ejection it is under now.
    pub fn ejection(&self) -> Option<Terms> {
        let word = self.word.load(Ordering::SeqCst);
        (word & EJECTED != 0).then(|| Terms::of(word))
    }

    /// The terms of the ejection it is under, or was last.
    pub fn terms(&self) -> Terms {
        Terms::of(self.word.load(Ordering::SeqCst))
    }

    /// The word before the change; `None`: `f` wanted none.
    fn update(&self, f: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut word = self.word.load(Ordering::SeqCst);
        loop {
            let next = f(word)?;
            match self.word.compare_exchange(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(before) => return Some(before),
                Err(seen) => word = seen,
            }
        }
    }
}

impl Terms {
    fn of(word: u64) -> Self {
        Self {
            reason: (word >> REASON) as u8 & 0b111,
            times: (word >> TIMES) as u16,
            moment: word >> MOMENT,
        }
    }

    /// The state and conditions of `word`, with these terms.
    fn into_word(self, word: u64) -> u64 {
        let reason = u64::from(self.reason & 0b111) << REASON;
        word & CONDITION | reason | u64::from(self.times) << TIMES | self.moment << MOMENT
    }
}

/// Loom takes SeqCst accesses for AcqRel ones, which is too weak here and gives false alarms; in the model
/// a fence stands for the one total order that SeqCst accesses have by definition.
#[inline(always)]
fn fence_in_model() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}
