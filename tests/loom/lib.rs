//! Every interleaving of the pick/drain protocol, by loom.

#![cfg(loom)]

#[path = "../../src/upstream/gate.rs"]
pub mod gate;

#[cfg(test)]
mod tests {
    use std::sync::Arc as StdArc;

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::thread;

    use super::gate::{Gate, State};

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
            gate.set_state(State::Draining);
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
            gate.set_state(State::Ready);
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
}
