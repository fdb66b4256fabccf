//! Deadlines for everything a worker waits for, without a runtime timer per request.
//!
//! Each connection and each exchange owns a [`Timer`]: a slot that is armed and disarmed by
//! writing a number. One sweeper task per worker looks at the slots when the earliest armed
//! deadline may have come (at least once a second while any is armed) and wakes the owners of
//! those that have passed. Deadlines are kept to within [`GRAIN`].

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use crate::clock::{Clock, Micros};

/// How late a deadline may be noticed, and the shortest time between two sweeps.
pub const GRAIN: Duration = Duration::from_millis(5);

/// An armed deadline further away than this is looked at again by then, so that a slot that
/// is armed anew need not tell the sweeper unless its deadline is nearer.
const LONGEST: Micros = 1_000_000;
const NEVER: Micros = Micros::MAX;

/// All slots of one worker.
pub struct Timers {
    clock: Clock,
    slots: RefCell<Slab<Slot>>,
    /// When the sweeper wakes next; `NEVER` while it sleeps without a deadline.
    next: Cell<Micros>,
    sweeper: RefCell<Option<Waker>>,
}

struct Slot {
    deadline: Micros,
    /// The sweeper saw the deadline pass. Owners look at this alone, so that polling needs no clock.
    expired: bool,
    waker: Option<Waker>,
}

/// One slot; freed when dropped.
pub struct Timer {
    timers: Rc<Timers>,
    key: usize,
}

impl Timers {
    pub fn new(clock: Clock) -> Rc<Self> {
        Rc::new(Self {
            clock,
            slots: RefCell::default(),
            next: Cell::new(NEVER),
            sweeper: RefCell::new(None),
        })
    }

    /// A slot that is not armed.
    pub fn timer(self: &Rc<Self>) -> Timer {
        let key =
            self.slots.borrow_mut().insert(Slot { deadline: NEVER, expired: false, waker: None });
        Timer { timers: self.clone(), key }
    }

    /// Wakes every owner that waits, whatever its deadline: something about all of them changed.
    pub fn wake_all(&self) {
        for (_, slot) in self.slots.borrow().iter() {
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// The sweeper: runs as long as the worker does.
    pub async fn run(self: Rc<Self>) {
        loop {
            let wait = match self.next.get() {
                NEVER => None,
                at => Some(at.saturating_sub(self.clock.now())),
            };
            self.asleep(wait).await;
            self.sweep();
        }
    }

    /// Waits that long, or until a nearer deadline is armed.
    async fn asleep(&self, wait: Option<Micros>) {
        let next = self.next.get();
        let nudged = poll_fn(|cx| {
            if self.next.get() < next {
                return Poll::Ready(());
            }
            *self.sweeper.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        });
        match wait {
            None => nudged.await,
            Some(wait) => {
                let _ = tokio::time::timeout(Duration::from_micros(wait).max(GRAIN), nudged).await;
            }
        }
    }

    fn sweep(&self) {
        let now = self.clock.now();
        let mut next = NEVER;
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            if slot.expired {
                continue;
            }
            if slot.deadline <= now {
                slot.expired = true;
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            } else {
                next = next.min(slot.deadline);
            }
        }
        self.next.set(if next == NEVER { NEVER } else { next.min(now + LONGEST) });
    }

    fn nudge(&self, deadline: Micros) {
        self.next.set(deadline);
        if let Some(waker) = self.sweeper.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Timer {
    /// Sets the deadline, in place of any other.
    pub fn arm(&self, deadline: Micros) {
        if let Some(slot) = self.timers.slots.borrow_mut().get_mut(self.key) {
            slot.deadline = deadline;
            slot.expired = false;
        }
        let next = self.timers.next.get();
        if deadline < next {
            // Far deadlines are found by a sweep within LONGEST; only near ones wake the sweeper.
            let soon = deadline.min(self.timers.clock.now() + LONGEST);
            if soon < next {
                self.timers.nudge(soon);
            }
        }
    }

    /// A number that is as good as random among the slots of a worker, and stays.
    pub fn place(&self) -> u16 {
        // Fibonacci hashing (Knuth, TAOCP 3, §6.4): neighbours are far apart.
        ((self.key as u32).wrapping_mul(0x9e37_79b9) >> 16) as u16
    }

    pub fn arm_in(&self, now: Micros, wait: Duration) {
        self.arm(now.saturating_add(wait.as_micros() as Micros));
    }

    pub fn disarm(&self) {
        if let Some(slot) = self.timers.slots.borrow_mut().get_mut(self.key) {
            slot.deadline = NEVER;
            slot.expired = false;
        }
    }

    /// Ready once the deadline has passed; else the task is woken when it has, or by [`Timers::wake_all`].
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slots = self.timers.slots.borrow_mut();
        let Some(slot) = slots.get_mut(self.key) else { return Poll::Pending };
        if slot.expired {
            return Poll::Ready(());
        }
        match &slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => slot.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Resolves once the deadline has passed.
    pub async fn expired(&self) {
        poll_fn(|cx| self.poll_expired(cx)).await
    }

    /// The value of `future`, or `None` if it has none within `wait`.
    pub async fn within<F: Future>(
        &self,
        now: Micros,
        wait: Duration,
        future: F,
    ) -> Option<F::Output> {
        self.arm_in(now, wait);
        let mut future = std::pin::pin!(future);
        let output = poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.poll_expired(cx).map(|()| None)
        })
        .await;
        self.disarm();
        output
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.timers.slots.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::LocalSet;

    fn run<F: Future>(f: impl FnOnce(Rc<Timers>) -> F) -> F::Output {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
        LocalSet::new().block_on(&runtime, async move {
            let timers = Timers::new(Clock::real());
            tokio::task::spawn_local(timers.clone().run());
            f(timers).await
        })
    }

    #[test]
    fn near_deadline_is_noticed_while_the_sweeper_sleeps_for_a_far_one() {
        run(|timers| async move {
            let (far, near) = (timers.timer(), timers.timer());
            let now = timers.clock.now();
            far.arm_in(now, Duration::from_secs(3600));
            tokio::task::yield_now().await;
            near.arm_in(now, Duration::from_millis(20));
            near.expired().await;
            assert!(timers.clock.now() >= now + 20_000);
        });
    }

    #[test]
    fn rearmed_timer_keeps_the_last_deadline_only() {
        run(|timers| async move {
            let timer = timers.timer();
            let now = timers.clock.now();
            timer.arm_in(now, Duration::from_millis(1));
            timer.arm_in(now, Duration::from_millis(60));
            timer.expired().await;
            assert!(timers.clock.now() >= now + 60_000);
        });
    }

    #[test]
    fn within_gives_the_value_or_none() {
        run(|timers| async move {
            let timer = timers.timer();
            let now = timers.clock.now();
            assert_eq!(timer.within(now, Duration::from_secs(60), async { 7 }).await, Some(7));
            let never = std::future::pending::<()>();
            assert_eq!(timer.within(now, Duration::from_millis(5), never).await, None);
        });
    }

    #[test]
    fn dropped_timers_free_their_slots() {
        let timers = Timers::new(Clock::real());
        let a = timers.timer();
        drop(timers.timer());
        assert_eq!(timers.slots.borrow().len(), 1);
        drop(a);
        assert!(timers.slots.borrow().is_empty());
    }
}
