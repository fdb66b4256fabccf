//! The connections of one worker to one backend: idle ones for HTTP/1.1, shared ones for HTTP/2.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Micros;

use super::conn::{Conn, Opened};
use super::http1::Http1;
use super::http2::Multiplexed;

/// A shared connection without streams is kept for so long: servers end them after minutes, and say so.
const SHARED_IDLE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub struct Pool {
    /// Newest at the end; the one used last is the likeliest to be open and warm.
    idle: RefCell<Vec<Http1>>,
    shared: RefCell<Vec<Rc<Multiplexed>>>,
    /// The last connection that was opened speaks HTTP/2.
    shares: Cell<bool>,
    /// A shared connection is being opened.
    opening: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
    /// Nothing comes back into it.
    closed: Cell<bool>,
}

/// A shared connection is being opened until this is dropped.
pub struct Opens<'a>(&'a Pool);

impl Pool {
    /// A stream of a shared connection, or an idle one that was used within `longest_idle` and is open;
    /// closed ones on the way are dropped. `http1`: nothing but the latter.
    pub fn take(&self, now: Micros, longest_idle: Duration, http1: bool) -> Option<Conn> {
        if !http1 && let Some(conn) = self.take_stream() {
            return Some(conn);
        }
        let mut idle = self.idle.borrow_mut();
        while let Some(mut conn) = idle.pop() {
            if now.saturating_sub(conn.idle_since) > longest_idle.as_micros() as Micros {
                // The rest is older still. It may do for others; the sweep ends it.
                idle.push(conn);
                return None;
            }
            if conn.is_open() {
                conn.set_idle(false);
                return Some(Conn::Http1(conn));
            }
        }
        None
    }

    #[inline]
    fn take_stream(&self) -> Option<Conn> {
        if !self.shares.get() {
            return None;
        }
        // The first has the most streams: the others may become idle.
        self.shared.borrow().iter().find_map(Multiplexed::stream).map(Conn::Http2)
    }

    /// Takes a new connection in, and gives a place on it.
    pub fn opened(&self, opened: Opened) -> Option<Conn> {
        match opened {
            Opened::Http1(conn) => Some(Conn::Http1(conn)),
            Opened::Http2(shared) => {
                self.shares.set(true);
                let stream = shared.stream();
                if !self.closed.get() {
                    self.shared.borrow_mut().push(shared);
                }
                stream.map(Conn::Http2)
            }
        }
    }

    /// Puts a connection back that has finished its exchange. Whether it is still open is asked when it is taken out.
    pub fn give_back(&self, conn: Conn, now: Micros, most: usize) {
        let Conn::Http1(mut conn) = conn else { return };
        let mut idle = self.idle.borrow_mut();
        if self.closed.get() || idle.len() >= most || !conn.is_over() {
            return;
        }
        conn.set_idle(true);
        conn.idle_since = now;
        idle.push(conn);
    }

    /// Idle connections of its own.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The caller opens a shared connection; `None`: another does already, see [`Pool::poll_opened`].
    pub fn open(&self) -> Option<Opens<'_>> {
        (!self.opening.replace(true)).then(|| Opens(self))
    }

    /// Its connections are known to be shared.
    pub fn shares(&self) -> bool {
        self.shares.get()
    }

    /// Ready when nobody opens a shared connection (any more).
    pub fn poll_opened(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.opening.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// From now on connections come back into it, or not; then those that are idle are closed.
    pub fn set_closed(&self, closed: bool) {
        self.closed.set(closed);
        if closed {
            self.idle.borrow_mut().clear();
            // Streams hold on to theirs.
            self.shared.borrow_mut().clear();
        }
    }

    /// Closes what was idle for longer than it may be, or was closed by the backend.
    pub fn sweep(&self, now: Micros, longest_idle: Duration) {
        let longest = longest_idle.as_micros() as Micros;
        let mut idle = self.idle.borrow_mut();
        if !idle.is_empty() {
            idle.retain(|conn| conn.is_open() && now.saturating_sub(conn.idle_since) <= longest);
        }
        if self.shares.get() {
            let longest = SHARED_IDLE.as_micros() as Micros;
            self.shared.borrow_mut().retain(|shared| {
                let idle = shared.idle_since(now).map_or(0, |since| now.saturating_sub(since));
                shared.is_open() && idle <= longest
            });
        }
    }
}

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        for waker in self.0.waiting.take() {
            waker.wake();
        }
    }
}
