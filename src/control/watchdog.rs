//! The service manager's watchdog: a sign of life twice in its time, but only while we live.
//!
//! A process can be there and serve nobody. So before each sign every worker has to answer, from
//! its own loop, and the control plane must have ticked lately. What is stuck stops the signs, and
//! the manager does what it was told to do with such a process.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::core::Control;

/// The control plane ticks once a second. One that has not for this long hangs.
const TICKS_WITHIN: Duration = Duration::from_secs(5);

/// Gives signs of life for as long as the process runs, if a manager wants them.
pub async fn run(control: Arc<Control>) {
    let Some(within) = control.manager.watchdog() else { return };
    let alive = || {
        if control.standing.is_service() {
            control.manager.alive();
        }
    };
    turn(within / 2, || control.turns(), alive).await;
}

/// Calls `alive` once an interval, each time after `turns` came to an end. While it does not, there
/// is no call.
async fn turn<F: Future<Output = ()>>(every: Duration, turns: impl Fn() -> F, alive: impl Fn()) {
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        turns().await;
        alive();
    }
}

impl Control {
    /// Resolves once everything that has to turn has turned.
    async fn turns(&self) {
        if tokio::time::timeout(TICKS_WITHIN, self.plane.turned()).await.is_err() {
            tracing::error!("a worker does not answer; the watchdog is not fed until it does");
            self.plane.turned().await;
        }
        let mut told = false;
        loop {
            let since = self.clock.now().saturating_sub(self.ticked.load(Relaxed));
            if since <= TICKS_WITHIN.as_micros() as u64 {
                return;
            }
            if !std::mem::replace(&mut told, true) {
                tracing::error!("the control plane does not turn; the watchdog is not fed");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Semaphore;

    use super::*;

    async fn eventually(count: &AtomicU32, wanted: u32) {
        while count.load(Relaxed) < wanted {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_does_not_turn_is_not_called_alive() {
        let (alive, asked) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let turning = Arc::new(Semaphore::new(2));
        let (counted, begun, permits) = (alive.clone(), asked.clone(), turning.clone());
        let task = tokio::spawn(async move {
            let turned = || async {
                begun.fetch_add(1, Relaxed);
                permits.acquire().await.expect("open").forget();
            };
            let count = || _ = counted.fetch_add(1, Relaxed);
            turn(Duration::from_millis(1), turned, count).await;
        });
        eventually(&asked, 3).await;
        assert_eq!(alive.load(Relaxed), 2, "the third turn does not end");
        turning.add_permits(1);
        eventually(&asked, 4).await;
        assert_eq!(alive.load(Relaxed), 3, "it ended after all");
        task.abort();
    }
}
