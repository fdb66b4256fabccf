//! Requests that wait for a place at a service whose backends are all full: how many there are, and whose turn
//! it is. What wakes one, and what it looks for then, is left to those who wait (`proxy::waiting`).
//!
//! Those of a higher rank go first, whatever their age. Once the queue has not been empty for so long that waiting does
//! no good any more it is *congested*: from then on the newest of a rank goes first, as whoever has waited longest has
//! the least time left (adaptive LIFO; Maurer 2015, "Fail at Scale"). A ticket says all of that: the lowest is first.
//!
//! Each worker keeps its own waiting requests (a [`Line`]) and shows only the first of them here. The lowest
//! ticket of those is the first of all: only it may take a place, so the order is the same whatever the worker.
//!
//! **No wake-up is lost.** Whoever waits shows itself first and looks for a place afterwards; whoever gives a
//! place back does that first and looks here afterwards ([`Queue::wake`]). Both are sequentially consistent, as
//! at the [`Gate`](super::gate::Gate), so at least one sees the other. Whoever leaves the queue, with a place or
//! without, wakes the next: several places given back at the same moment may wake one request only, and a
//! request that was woken may have gone away. Checked with loom in tests/loom.

#[cfg(not(loom))]
mod line;

#[cfg(not(loom))]
pub use line::{Line, Waiting};

#[cfg(not(loom))]
use futures_util::task::AtomicWaker;
#[cfg(loom)]
use loom::future::AtomicWaker;
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst, fence};
use std::task::Waker;

/// Microseconds of the process clock; written out, as the models of tests/loom have no other module.
type Micros = u64;

const NOBODY: u64 = u64::MAX;
/// A ticket: rank in 4 bits, whether it is of one that joined while it was not congested, number in 59 bits.
const RANK: u32 = 60;
const IN_ORDER: u64 = 1 << 59;
const NUMBER: u64 = IN_ORDER - 1;

/// The queue of one service, for all workers; lives through reloads.
#[derive(Debug)]
pub struct Queue {
    depth: AtomicU32,
    next: AtomicU64,
    /// When it was last seen to stop being empty, in µs of the process clock.
    busy_since: AtomicU64,
    /// By worker.
    firsts: Box<[First]>,
}

/// The first waiting request of one worker.
#[derive(Debug)]
struct First {
    ticket: AtomicU64,
    waker: AtomicWaker,
}

impl Queue {
    pub fn new(workers: usize) -> Self {
        let first = |_| First { ticket: AtomicU64::new(NOBODY), waker: AtomicWaker::new() };
        Self {
            depth: AtomicU32::new(0),
            next: AtomicU64::new(0),
            busy_since: AtomicU64::new(0),
            firsts: (0..workers).map(first).collect(),
        }
    }

    /// Requests that wait, of all workers.
    #[inline]
    pub fn depth(&self) -> u32 {
        self.depth.load(SeqCst)
    }

    /// A place was given back, or there may be one for another reason: the first request looks. One load
    /// while nobody waits.
    #[inline]
    pub fn wake(&self) {
        // In the model only, as at the gate: SeqCst accesses have one order by definition.
        #[cfg(loom)]
        fence(SeqCst);
        if self.depth() != 0 {
            self.wake_first();
        }
    }

    /// Takes a ticket, unless `most` wait already. `rank`: the lowest goes first, at most 15. `congested`: it goes
    /// before the others of its rank. [`Queue::leave`] must follow.
    pub fn join(&self, most: u32, rank: u8, congested: bool, now: Micros) -> Option<u64> {
        let mut depth = self.depth.load(SeqCst);
        loop {
            if depth >= most {
                return None;
            }
            match self.depth.compare_exchange(depth, depth + 1, SeqCst, SeqCst) {
                Ok(_) => break,
                Err(seen) => depth = seen,
            }
        }
        if depth == 0 {
            self.busy_since.store(now, SeqCst);
        }
        let number = self.next.fetch_add(1, SeqCst) & NUMBER;
        let order = if congested { NUMBER - number } else { IN_ORDER | number };
        Some(u64::from(rank.min(14)) << RANK | order)
    }

    /// Whether somebody has waited in it at every moment of the last `interval` µs.
    pub fn is_congested(&self, interval: Micros, now: Micros) -> bool {
        self.depth() > 0 && now.saturating_sub(self.busy_since.load(SeqCst)) > interval
    }

    /// Shows the first of a worker and who is to be woken for it; true if it is the first of all, and may
    /// look for a place now. For that worker's thread.
    pub fn show(&self, worker: usize, ticket: u64, waker: &Waker) -> bool {
        let first = &self.firsts[worker];
        register(&first.waker, waker);
        first.ticket.store(ticket, SeqCst);
        // What it looks at next is read with relaxed loads.
        fence(SeqCst);
        self.first() == Some((ticket, worker))
    }

    /// A request leaves, with a place or without. `next`: the first of that worker from now on, if another was
    /// shown before. For that worker's thread.
    pub fn leave(&self, worker: usize, next: Option<Option<(u64, &Waker)>>) {
        let first = &self.firsts[worker];
        match next {
            None => {}
            Some(None) => first.ticket.store(NOBODY, SeqCst),
            Some(Some((ticket, waker))) => {
                register(&first.waker, waker);
                first.ticket.store(ticket, SeqCst);
            }
        }
        self.depth.fetch_sub(1, SeqCst);
        self.wake();
    }

    #[cold]
    fn wake_first(&self) {
        if let Some((_, worker)) = self.first() {
            self.firsts[worker].waker.wake();
        }
    }

    /// The lowest ticket that is shown, and its worker.
    fn first(&self) -> Option<(u64, usize)> {
        let shown = self.firsts.iter().enumerate().map(|(i, f)| (f.ticket.load(SeqCst), i));
        shown.min().filter(|(ticket, _)| *ticket != NOBODY)
    }
}

fn register(at: &AtomicWaker, waker: &Waker) {
    #[cfg(not(loom))]
    at.register(waker);
    #[cfg(loom)]
    at.register_by_ref(waker);
}
