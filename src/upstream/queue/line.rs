//! The requests of one worker that wait for one service, in the order of their tickets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::Queue;

/// One worker's part of a [`Queue`]; lives as long as that worker knows the service.
#[derive(Debug)]
pub struct Line {
    queue: Arc<Queue>,
    worker: usize,
    /// By ticket; no waker until it was first polled.
    waiting: RefCell<BTreeMap<u64, Option<Waker>>>,
}

/// A request in the queue; leaves it when dropped.
#[derive(Debug)]
pub struct Waiting {
    line: Rc<Line>,
    ticket: u64,
}

impl Line {
    pub fn new(queue: Arc<Queue>, worker: usize) -> Rc<Self> {
        Rc::new(Self { queue, worker, waiting: RefCell::default() })
    }

    /// Whether it is a part of that queue.
    pub fn is_of(&self, queue: &Arc<Queue>) -> bool {
        Arc::ptr_eq(&self.queue, queue)
    }

    /// Joins the queue, unless `most` wait already; see [`Queue::join`].
    pub fn join(
        self: &Rc<Self>,
        most: u32,
        rank: u8,
        congested: bool,
        now: u64,
    ) -> Option<Waiting> {
        let ticket = self.queue.join(most, rank, congested, now)?;
        self.waiting.borrow_mut().insert(ticket, None);
        Some(Waiting { line: self.clone(), ticket })
    }

    /// The first looks again: what this worker knows of the service has changed.
    pub fn look_again(&self) {
        let waiting = self.waiting.borrow();
        if let Some((_, Some(waker))) = waiting.first_key_value() {
            waker.wake_by_ref();
        }
    }
}

impl Waiting {
    /// Whether it is its turn: then it may look for a place. If not, or if it finds none, the task is woken
    /// when it is to ask again.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> bool {
        let mut waiting = self.line.waiting.borrow_mut();
        let is_first = waiting.first_key_value().is_some_and(|(first, _)| *first == self.ticket);
        match waiting.get_mut(&self.ticket) {
            Some(Some(known)) if known.will_wake(cx.waker()) => {}
            Some(slot) => *slot = Some(cx.waker().clone()),
            None => {}
        }
        is_first && self.line.queue.show(self.line.worker, self.ticket, cx.waker())
    }

    /// Requests that wait, this one among them.
    pub fn depth(&self) -> u32 {
        self.line.queue.depth()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting.borrow_mut();
        let was_first = waiting.first_key_value().is_some_and(|(first, _)| *first == self.ticket);
        waiting.remove(&self.ticket);
        // One that was never polled shows itself when it is.
        let next = waiting.first_key_value();
        let next = next.and_then(|(ticket, waker)| Some((*ticket, waker.as_ref()?)));
        self.line.queue.leave(self.line.worker, was_first.then_some(next));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// A request with the number of times that it was woken.
    struct Asking {
        waiting: Waiting,
        woken: Arc<Count>,
    }

    impl Asking {
        fn of(line: &Rc<Line>) -> Self {
            Self {
                waiting: line.join(99, 0, false, 0).expect("there is room"),
                woken: Arc::default(),
            }
        }

        fn is_its_turn(&self) -> bool {
            let waker = Waker::from(self.woken.clone());
            self.waiting.poll_turn(&mut Context::from_waker(&waker))
        }

        fn woken(&self) -> u32 {
            self.woken.0.swap(0, SeqCst)
        }
    }

    fn two_workers() -> (Arc<Queue>, [Rc<Line>; 2]) {
        let queue = Arc::new(Queue::new(2));
        (queue.clone(), [0, 1].map(|worker| Line::new(queue.clone(), worker)))
    }

    #[test]
    fn the_oldest_of_all_workers_is_woken_and_the_others_in_their_order() {
        let (queue, lines) = two_workers();
        let mut all: Vec<_> = [0, 1, 1, 0, 1].map(|worker| Asking::of(&lines[worker])).into();
        let turns: Vec<_> = all.iter().map(Asking::is_its_turn).collect();
        assert_eq!(turns, [true, false, false, false, false]);
        assert_eq!(queue.depth(), 5);
        while !all.is_empty() {
            queue.wake();
            let woken: Vec<_> = all.iter().map(Asking::woken).collect();
            assert_eq!((woken[0], woken.iter().sum::<u32>()), (1, 1), "{woken:?}");
            assert!(all[0].is_its_turn());
            // It takes the place; the next looks whether there is another.
            drop(all.remove(0));
            if let Some(next) = all.first() {
                assert_eq!((next.woken(), next.is_its_turn()), (1, true));
            }
        }
        assert_eq!(queue.depth(), 0);
    }

    #[test]
    fn one_that_finds_nothing_stays_where_it_was() {
        let (queue, lines) = two_workers();
        let (first, second) = (Asking::of(&lines[0]), Asking::of(&lines[1]));
        for _ in 0..3 {
            assert!(first.is_its_turn() && !second.is_its_turn());
            queue.wake();
            assert_eq!((first.woken(), second.woken()), (1, 0));
        }
    }

    #[test]
    fn one_in_the_middle_leaves_without_a_trace() {
        let (queue, lines) = two_workers();
        let all = [0, 0, 0].map(|worker| Asking::of(&lines[worker]));
        assert!(all[0].is_its_turn() && !all[1].is_its_turn() && !all[2].is_its_turn());
        let [first, second, third] = all;
        drop(second);
        assert_eq!(queue.depth(), 2);
        drop(first);
        assert!(third.woken() > 0 && third.is_its_turn());
    }

    #[test]
    fn the_bound_is_one_for_all_workers() {
        let (queue, lines) = two_workers();
        let taken: Vec<_> = (0..5).filter_map(|n| lines[n % 2].join(3, 0, false, 0)).collect();
        assert_eq!((taken.len(), queue.depth()), (3, 3));
        drop(taken);
        assert!(lines[0].join(1, 0, false, 0).is_some());
        assert!(lines[0].join(0, 0, false, 0).is_none());
    }
}
