//! The write timeout of a connection to a backend, and the loop that runs its codec under it.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::Micros;
use crate::worker::timers::{Timer, Timers};

use super::io::Wire;

/// Runs a codec to its end, at most until the backend has read nothing for `write_timeout` while a write
/// would block: then `None`.
pub async fn within<C: Future + Unpin>(
    codec: &mut C,
    wire: &Wire,
    timers: Rc<Timers>,
    write_timeout: Duration,
    now: impl Fn() -> Micros,
) -> Option<C::Output> {
    let mut stall = Stall { timers, timer: None, write_timeout };
    poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut *codec).poll(cx) {
            return Poll::Ready(Some(result));
        }
        stall.poll(wire.blocked(), &now, cx).map(|()| None)
    })
    .await
}

/// The write timeout: counts from the last write that took something, while the next would block.
struct Stall {
    timers: Rc<Timers>,
    /// Made when a write first blocks; with the progress it was armed at.
    timer: Option<(Timer, Option<u32>)>,
    write_timeout: Duration,
}

impl Stall {
    fn poll(
        &mut self,
        blocked: Option<u32>,
        now: &impl Fn() -> Micros,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if blocked.is_none() && self.timer.is_none() {
            return Poll::Pending;
        }
        let (timer, armed) = self.timer.get_or_insert_with(|| (self.timers.timer(), None));
        if *armed != blocked {
            *armed = blocked;
            match blocked {
                Some(_) => timer.arm_in(now(), self.write_timeout),
                None => timer.disarm(),
            }
        }
        if blocked.is_some() { timer.poll_expired(cx) } else { Poll::Pending }
    }
}
