//! Sleeps that end on time. Those of tokio count whole milliseconds and end one late on average: a
//! tenth of the shortest service time here, and so of the capacity. A thread that waits for the
//! earliest ends within a tenth of a millisecond.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// All sleeps of a process, waited for by one thread.
#[derive(Clone)]
pub(crate) struct Timers(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    /// The earliest on top.
    sleeps: Mutex<BinaryHeap<Reverse<Sleep>>>,
    /// There is an earlier one.
    changed: Condvar,
}

struct Sleep {
    due: Instant,
    wake: oneshot::Sender<()>,
}

impl Timers {
    /// Starts the thread; it ends with the process.
    pub(crate) fn start() -> io::Result<Self> {
        let waiting = Arc::<Waiting>::default();
        let own = waiting.clone();
        thread::Builder::new().name("timers".to_owned()).spawn(move || own.run())?;
        Ok(Self(waiting))
    }

    pub(crate) async fn sleep(&self, time: Duration) {
        let (wake, woken) = oneshot::channel();
        let due = Instant::now() + time;
        {
            let mut sleeps = self.0.lock();
            let earliest = sleeps.peek().is_none_or(|Reverse(first)| due < first.due);
            sleeps.push(Reverse(Sleep { due, wake }));
            if earliest {
                self.0.changed.notify_one();
            }
        }
        // The other end is dropped by sending only.
        let _ = woken.await;
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Sleep>>> {
        self.sleeps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut sleeps = self.lock();
        loop {
            let now = Instant::now();
            let left = sleeps.peek().map(|Reverse(first)| first.due.saturating_duration_since(now));
            sleeps = match left {
                Some(Duration::ZERO) => {
                    if let Some(Reverse(sleep)) = sleeps.pop() {
                        // Whoever slept may be gone.
                        let _ = sleep.wake.send(());
                    }
                    sleeps
                }
                Some(left) => {
                    let woken = self.changed.wait_timeout(sleeps, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(sleeps).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl PartialEq for Sleep {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Sleep {}

impl PartialOrd for Sleep {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleep {
    fn cmp(&self, other: &Self) -> Ordering {
        self.due.cmp(&other.due)
    }
}
