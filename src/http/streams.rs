//! The task of one HTTP/2 stream, bounded in how long its client may leave it standing.
//!
//! An HTTP/1 client that reads nothing blocks its socket, which `serve` sees. An HTTP/2 client
//! can keep its connection moving and grant a single stream no window: the codec then waits
//! without asking for more of the answer, and whatever the answer holds would be held for good.
//! So each stream notes whose turn it is, and one that waits for its client has
//! `timeout.write`; then it is reset.
//!
//! A client can also open streams and take them back in the same breath, and a request that was sent on costs a
//! backend's connection. Whether a stream was reset is looked at only when its request was begun and has to
//! wait, so on a connection where that may be so a request waits once before it begins ([`unhurried`]).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::telemetry::Flood;
use crate::worker::timers::Timer;

use super::client::Client;

/// Whom a stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// To take what there is of the answer.
    Client,
    /// To send more of it; the exchange's own timer counts.
    Backend,
}

/// Runs a stream of a connection on its worker.
pub fn run(client: &Rc<Client>, future: impl Future<Output = ()> + 'static) {
    // Boxed at once: on its way into a task a future is copied several times.
    client.worker.spawn(Box::pin(Bounded { future, client: client.clone(), timer: None }));
}

/// Serves a request with `serve`: at once, or when it is polled again and it was not found meanwhile
/// that it was taken back.
pub fn unhurried<R, F, S: FnOnce(R) -> F>(
    client: &Client,
    request: R,
    serve: S,
) -> Unhurried<R, F, S> {
    if client.notes.hasty.get() {
        return Unhurried::Waits { held: Some((request, serve)), polled: false };
    }
    Unhurried::Serves { serving: serve(request) }
}

pin_project! {
    /// See [`unhurried`].
    #[project = Step]
    pub enum Unhurried<R, F, S> {
        /// `held` is some until it is served.
        Waits { held: Option<(R, S)>, polled: bool },
        Serves { #[pin] serving: F },
    }
}

impl<R, F: Future, S: FnOnce(R) -> F> Future for Unhurried<R, F, S> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if let Step::Waits { held, polled } = self.as_mut().project() {
            if !std::mem::replace(polled, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some((request, serve)) = held.take() else { return Poll::Pending };
            self.set(Unhurried::Serves { serving: serve(request) });
        }
        match self.project() {
            Step::Serves { serving } => serving.poll(cx),
            Step::Waits { .. } => Poll::Pending,
        }
    }
}

pin_project! {
    /// Dropping the codec's part resets the stream.
    struct Bounded<F> {
        #[pin]
        future: F,
        client: Rc<Client>,
        // Only streams that ever waited for their client have one.
        timer: Option<Timer>,
    }
}

impl<F: Future<Output = ()>> Future for Bounded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let client = &**this.client;
        // Streams of a worker are polled one at a time, so what is noted now is this one's.
        client.turn.set(None);
        if this.future.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match client.turn.take() {
            Some(Turn::Client) => {
                let timer = this.timer.get_or_insert_with(|| client.worker.timers.timer());
                timer.arm_in(client.worker.now(), client.listener.config.timeout.write);
            }
            Some(Turn::Backend) => {
                if let Some(timer) = this.timer {
                    timer.disarm();
                }
            }
            // Nothing moved.
            None => {}
        }
        match this.timer {
            Some(timer) => timer.poll_expired(cx).map(|()| {
                client.floods(Flood::StalledStream);
            }),
            None => Poll::Pending,
        }
    }
}
