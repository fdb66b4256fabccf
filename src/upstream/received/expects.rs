//! A client that waits for a 100 before it sends the body of its request (RFC 9110 §10.1.1).
//!
//! It is to get that once somebody reads the body, which may be another task than the one that answers. Over HTTP/1 the
//! codec sees to it.

use std::cell::Cell;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, header};

/// See the module.
#[derive(Default)]
pub struct Expects {
    read: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Expects {
    /// `None`: the client of a request with these headers does not wait.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::EXPECT)?.as_bytes();
        value.eq_ignore_ascii_case(b"100-continue").then(Self::default)
    }

    /// Somebody reads.
    pub fn reads(&self) {
        self.read.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ready once somebody reads.
    pub fn poll_read(&self, cx: &Context<'_>) -> Poll<()> {
        if self.read.get() {
            return Poll::Ready(());
        }
        self.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}
