//! Whether a backend takes extended CONNECT (RFC 8441 §3): it says so in its settings, which come some time after
//! the connection was opened.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

/// A backend's settings come within a round trip.
const WAIT: Duration = Duration::from_secs(1);

/// What is known of one connection.
#[derive(Debug, Default)]
pub(super) struct Extended {
    allowed: Cell<bool>,
    /// Its settings have come.
    settled: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Extended {
    /// The settings allow it.
    pub(super) fn allow(&self) {
        if !self.allowed.replace(true) {
            self.settle();
        }
    }

    /// The backend has answered something, and so said its settings before.
    pub(super) fn settle(&self) {
        if !self.settled.replace(true) {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// Whether it is allowed, once that is known.
    pub(super) async fn is_allowed(&self) -> bool {
        let settled = poll_fn(|cx| {
            if self.settled.get() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        });
        let _ = tokio::time::timeout(WAIT, settled).await;
        self.allowed.get()
    }
}
