//! The accept loop of one socket on one worker.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::snapshot::ListenerView;
use crate::telemetry::Refusal;
use crate::worker::context::Worker;
use crate::worker::timers::Timer;

use super::bind::Bound;
use super::conn::{self, Refused};

/// How long accepting rests when the process has no descriptor or no memory left, or the listener is full.
/// Meanwhile connections wait in the kernel's queue.
const REST: Duration = Duration::from_millis(50);
/// Connections accepted in one go before others of this worker get their turn.
const BATCH: usize = 64;

/// A running accept loop; dropping it closes the socket after accepting until it would block.
pub struct Listening {
    bound: Bound,
    close: Rc<Close>,
}

#[derive(Default)]
struct Close {
    asked: Cell<bool>,
    waker: Cell<Option<Waker>>,
    tell: Cell<Option<mpsc::Sender<()>>>,
}

/// Starts accepting.
pub fn listen(
    worker: Rc<Worker>,
    bound: Bound,
    socket: std::net::TcpListener,
) -> io::Result<Listening> {
    let socket = TcpListener::from_std(socket)?;
    let close = Rc::new(Close::default());
    tokio::task::spawn_local(run(worker, bound.clone(), socket, close.clone()));
    Ok(Listening { bound, close })
}

impl Listening {
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Closes it and drops the sender once it is closed.
    pub fn close_and_tell(self, tell: mpsc::Sender<()>) {
        self.close.tell.set(Some(tell));
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.close.asked.set(true);
        if let Some(waker) = self.close.waker.take() {
            waker.wake();
        }
    }
}

async fn run(worker: Rc<Worker>, bound: Bound, socket: TcpListener, close: Rc<Close>) {
    let rest = worker.timers.timer();
    let mut last = None;
    loop {
        let accepted = poll_fn(|cx| {
            // A removed listener is known no more, but what waits in its queue is still served.
            last = view(&worker, &bound).or(last.take());
            match &last {
                Some(view) => poll_batch(&worker, view, &socket, &close, cx),
                // The snapshot that knows it comes in a moment; the kernel keeps the queue.
                None => Poll::Ready(Batch::Rest),
            }
        });
        match accepted.await {
            Batch::More => tokio::task::yield_now().await,
            Batch::Rest => pause(&worker, &rest).await,
            Batch::Failed(error) => {
                if let Some(view) = &last {
                    view.stats.refuse(Refusal::Descriptors);
                }
                tracing::warn!(
                    listener = &*bound.listener,
                    "cannot accept for now: {error}; raise the limit of open files (ulimit -n)"
                );
                pause(&worker, &rest).await;
            }
            Batch::Closed => break,
        }
    }
    drop(socket);
    drop(close.tell.take());
}

async fn pause(worker: &Worker, rest: &Timer) {
    rest.arm_in(worker.now(), REST);
    rest.expired().await;
    rest.disarm();
}

enum Batch {
    /// There may be more at once, or the snapshot changed.
    More,
    /// There are as many connections as there may be, or the listener is not known yet.
    Rest,
    Failed(io::Error),
    Closed,
}

fn poll_batch(
    worker: &Rc<Worker>,
    view: &Arc<ListenerView>,
    socket: &TcpListener,
    close: &Close,
    cx: &mut Context<'_>,
) -> Poll<Batch> {
    for _ in 0..BATCH {
        let asked = close.asked.get();
        let full = view.stats.open() >= view.config.max_connections;
        if (full || worker.shared.full.load(Relaxed)) && !asked {
            return Poll::Ready(Batch::Rest);
        }
        match socket.poll_accept(cx) {
            Poll::Ready(Ok((stream, peer))) => {
                match conn::admit(worker, view, peer) {
                    // Boxed at once: on its way into a task a future is copied several times.
                    Ok(admitted) => worker.spawn(Box::pin(conn::serve(admitted, stream))),
                    Err(Refused::Banned) => worker.tarpit.hold(worker.now(), stream),
                    Err(Refused::Full) => {}
                }
            }
            Poll::Ready(Err(error)) if is_about_one_connection(&error) => {}
            Poll::Ready(Err(_)) | Poll::Pending if asked => return Poll::Ready(Batch::Closed),
            Poll::Ready(Err(error)) => return Poll::Ready(Batch::Failed(error)),
            Poll::Pending => {
                close.waker.set(Some(cx.waker().clone()));
                return Poll::Pending;
            }
        }
    }
    Poll::Ready(Batch::More)
}

/// The listener as the current snapshot has it.
pub(super) fn view(worker: &Worker, bound: &Bound) -> Option<Arc<ListenerView>> {
    let local = worker.local();
    local.snapshot.listeners.iter().find(|l| l.config.name == bound.listener).cloned()
}

/// The peer gave up before it was accepted; nothing is wrong with the socket.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
