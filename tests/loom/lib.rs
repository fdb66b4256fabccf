//! Every interleaving of the pick/drain protocol, of the queue's wake-ups, and of ejections with each other and
//! with drains, by loom.

#![cfg(loom)]

#[path = "../../src/upstream/gate.rs"]
pub mod gate;
#[path = "../../src/upstream/queue/mod.rs"]
pub mod queue;

#[path = "../../src/upstream/outlier/cap.rs"]
pub mod cap;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc as StdArc;
    use std::task::Poll;

    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::thread;

    use super::cap::Cap;
    use super::gate::{Gate, State, Terms};
    use super::queue::Queue;

    /// A drain that saw the backend idle is right for good: no request is being served, and none will be.
    #[test]
    fn what_was_seen_draining_and_idle_stays_idle() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(State::Ready));
            let stopped = Arc::new(AtomicBool::new(false));
            let pickers: Vec<_> = (0..2)
                .map(|_| {
                    let (gate, stopped) = (gate.clone(), stopped.clone());
                    thread::spawn(move || {
                        if gate.enter() {
                            // The request runs: the backend must not have been stopped.
                            assert!(!stopped.load(Ordering::SeqCst));
                            gate.leave();
                        }
                    })
                })
                .collect();
            assert!(!gate.set_state(State::Draining));
            if gate.is_idle() {
                stopped.store(true, Ordering::SeqCst);
            }
            pickers.into_iter().for_each(|p| p.join().unwrap());
            assert!(gate.is_idle());
        });
    }

    /// A pick undone leaves no trace, and conditions set at the same time as a state both stay.
    #[test]
    fn states_and_conditions_do_not_overwrite_each_other() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(State::Starting));
            let other = gate.clone();
            let health = thread::spawn(move || other.set_healthy(false));
            assert!(!gate.set_state(State::Ready));
            health.join().unwrap();
            assert_eq!(gate.state(), State::Ready);
            assert!(!gate.is_healthy() && !gate.is_available() && gate.is_ready());
        });
    }

    /// Two requests in and out at the same time: both are counted while they run, none after.
    #[test]
    fn no_request_is_lost_or_counted_twice() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(State::Ready));
            let most = StdArc::new(std::sync::atomic::AtomicU32::new(0));
            let other = gate.clone();
            let seen = most.clone();
            let second = thread::spawn(move || {
                assert!(other.enter());
                seen.fetch_max(other.in_flight(), std::sync::atomic::Ordering::SeqCst);
                other.leave();
            });
            assert!(gate.enter());
            most.fetch_max(gate.in_flight(), std::sync::atomic::Ordering::SeqCst);
            gate.leave();
            second.join().unwrap();
            assert!((1..=2).contains(&most.load(std::sync::atomic::Ordering::SeqCst)));
            assert_eq!(gate.in_flight(), 0);
        });
    }

    /// A request of one worker that waits for the one place of a gate, as `proxy::waiting` does.
    async fn wait(gate: Arc<Gate>, queue: Arc<Queue>, worker: usize) {
        let ticket = queue.join(9, 0, false, 0).expect("there is room");
        poll_fn(|cx| match queue.show(worker, ticket, cx.waker()) && gate.enter_below(1) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        queue.leave(worker, Some(None));
    }

    /// Who waits is woken by whoever gives the place back, at whatever moment that happens.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(State::Ready));
            let queue = Arc::new(Queue::new(1));
            assert!(gate.enter_below(1));
            let (other, its_queue) = (gate.clone(), queue.clone());
            let holder = thread::spawn(move || {
                other.leave();
                its_queue.wake();
            });
            // It would block for good if the wake-up were lost, which loom takes for a deadlock.
            block_on(wait(gate.clone(), queue.clone(), 0));
            holder.join().unwrap();
            assert_eq!((gate.in_flight(), queue.depth()), (1, 0));
        });
    }

    /// Two workers, one place: who gets it gives it back, and the other gets it then.
    #[test]
    fn who_leaves_wakes_the_next() {
        let mut model = loom::model::Builder::new();
        // Without a bound it takes hours; lost wake-ups need two switches at the wrong moment.
        model.preemption_bound = Some(3);
        model.check(|| {
            let gate = Arc::new(Gate::new(State::Ready));
            let queue = Arc::new(Queue::new(2));
            let (other, its_queue) = (gate.clone(), queue.clone());
            let second = thread::spawn(move || {
                block_on(wait(other.clone(), its_queue.clone(), 1));
                other.leave();
                its_queue.wake();
            });
            block_on(wait(gate.clone(), queue.clone(), 0));
            gate.leave();
            queue.wake();
            second.join().unwrap();
            assert_eq!((gate.in_flight(), queue.depth()), (0, 0));
        });
    }

    /// The limit of a gate holds at every moment, and nobody is refused a place that is free.
    #[test]
    fn one_place_is_taken_by_one_of_two() {
        loom::model(|| {
            let gate = Arc::new(Gate::new(State::Ready));
            let other = gate.clone();
            let second = thread::spawn(move || other.enter_below(1));
            let first = gate.enter_below(1);
            assert!(first != second.join().unwrap());
            assert_eq!(gate.in_flight(), 1);
        });
    }

    /// Two backends and their cap, as `Outliers` puts them together.
    struct Pool {
        gates: [Gate; 2],
        cap: Cap,
    }

    impl Pool {
        fn new() -> Arc<Self> {
            let gates = [Gate::new(State::Ready), Gate::new(State::Ready)];
            Arc::new(Self { gates, cap: Cap::default() })
        }

        /// All but one of those that are ready may be out.
        fn most(&self) -> u32 {
            let ready = self.gates.iter().filter(|gate| gate.is_ready()).count() as u32;
            ready.saturating_sub(1)
        }

        fn eject(&self, i: usize) -> bool {
            let terms = |before: Terms| Terms { times: before.times + 1, ..before };
            self.cap.take(|| self.most(), || self.gates[i].eject(terms)).is_some()
        }

        fn uneject(&self, i: usize) {
            if self.gates[i].uneject(1, |_| true) {
                self.cap.give_back();
            }
        }

        fn drain(&self, i: usize) {
            if self.gates[i].set_state(State::Draining) {
                self.cap.give_back();
            }
        }

        fn ejected(&self) -> u32 {
            self.gates.iter().filter(|gate| gate.is_ejected()).count() as u32
        }
    }

    /// Of two that are ejected at the same time one stays.
    #[test]
    fn the_last_is_never_ejected() {
        loom::model(|| {
            let pool = Pool::new();
            let other = pool.clone();
            let ejector = thread::spawn(move || other.eject(0));
            let here = pool.eject(1);
            let there = ejector.join().unwrap();
            // Who lost may have looked while the place was taken by the other only.
            assert!(here != there);
            assert_eq!((pool.ejected(), pool.cap.taken()), (1, 1));
        });
    }

    /// Ejected twice and let back at the same time: each place is taken once and given back once.
    #[test]
    fn places_are_neither_lost_nor_given_back_twice() {
        loom::model(|| {
            let pool = Pool::new();
            let (one, two) = (pool.clone(), pool.clone());
            let first = thread::spawn(move || one.eject(0));
            let second = thread::spawn(move || two.eject(0));
            pool.uneject(0);
            let ejections = [first.join().unwrap(), second.join().unwrap()];
            assert!(ejections.contains(&true));
            assert_eq!(pool.ejected(), pool.cap.taken());
            pool.uneject(0);
            assert_eq!((pool.ejected(), pool.cap.taken()), (0, 0));
        });
    }

    /// A drain ends an ejection or keeps it from happening, whichever comes first; and what was seen draining and
    /// idle stays idle while others eject.
    #[test]
    fn a_drain_leaves_no_ejection() {
        loom::model(|| {
            let pool = Pool::new();
            let (ejecting, picking) = (pool.clone(), pool.clone());
            let ejector = thread::spawn(move || {
                ejecting.eject(0);
            });
            let picker = thread::spawn(move || {
                let entered = picking.gates[0].is_available() && picking.gates[0].enter();
                if entered {
                    picking.gates[0].leave();
                }
            });
            pool.drain(0);
            let idle = pool.gates[0].is_idle();
            ejector.join().unwrap();
            picker.join().unwrap();
            assert_eq!(
                (pool.gates[0].state(), pool.gates[0].is_ejected()),
                (State::Draining, false)
            );
            assert_eq!((pool.ejected(), pool.cap.taken()), (0, 0));
            assert!(!idle || pool.gates[0].is_idle());
        });
    }

    /// Two requests may try one that is ejected: one of them does.
    #[test]
    fn a_probe_is_taken_once() {
        loom::model(|| {
            let pool = Pool::new();
            assert!(pool.eject(0));
            let claim = |pool: &Pool| {
                let next =
                    |terms: Terms| (terms.moment == 0).then_some(Terms { moment: 9, ..terms });
                pool.gates[0].prolong(next).is_some()
            };
            let other = pool.clone();
            let prober = thread::spawn(move || claim(&other));
            let here = claim(&pool);
            assert!(prober.join().unwrap() != here);
        });
    }
}
