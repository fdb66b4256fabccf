//! One HTTP/1.1 connection to a backend, for one exchange at a time (RFC 9112).
//!
//! Whoever sends a request polls the socket itself: no task runs beside it and nothing is handed from one to
//! another. What hyper's client does with a task and three channels a request costs a tenth of a small request,
//! and a third of one that came over HTTP/2. Only a body that is still being sent when its answer begins gets a
//! task, so that neither waits for the other.
//!
//! Answers are read strictly, see `head` and `body`. A connection is used again only if nothing
//! about the exchange before leaves a doubt.

mod body;
mod head;
mod input;
mod line;
mod names;
mod output;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use crate::clock::Clock;
use crate::worker::timers::Timers;

use super::conn::{AnswerBody, Lost, SendError};
use super::counted::Counted;
use super::outgoing::Outgoing;
use super::socket::Socket;

pub use body::Body;
use line::Line;

/// A connection that one request at a time may use.
pub struct Http1 {
    shared: Rc<Shared>,
    counted: Counted,
    /// When it was put into the pool.
    pub idle_since: crate::clock::Micros,
}

/// What the connection's owner, the request on it and the body of its answer share.
struct Shared {
    line: RefCell<Line>,
    /// Sends what is left of a body whose answer has begun.
    uploader: Cell<Option<tokio::task::AbortHandle>>,
}

impl Http1 {
    /// Speaks HTTP/1.1 on a socket from now on. `write_timeout`: what a backend may take to read anything.
    pub fn begin(
        socket: Socket,
        write_timeout: Duration,
        timers: &Rc<Timers>,
        clock: Clock,
        counted: Counted,
    ) -> Self {
        let line = RefCell::new(Line::new(socket, write_timeout, timers.clone(), clock));
        let shared = Rc::new(Shared { line, uploader: Cell::new(None) });
        Self { shared, counted, idle_since: 0 }
    }

    /// It goes into the pool, or comes out of it.
    pub fn set_idle(&mut self, idle: bool) {
        self.counted.set_idle(idle);
        if idle {
            self.shared.line.borrow_mut().rest();
        }
    }

    /// Whether another request may be sent, as far as its bytes tell. Its socket is asked by [`Http1::is_open`].
    pub fn is_over(&self) -> bool {
        self.shared.line.borrow().is_over()
    }

    /// Whether another request may be sent: the exchange before is over without a doubt, and the backend has
    /// neither closed the connection nor said anything that nobody asked for.
    pub fn is_open(&self) -> bool {
        self.shared.line.borrow_mut().is_free()
    }

    /// Sends a request and resolves with the head of the answer. `keep_head`: it may have to be
    /// sent again; `upgrade`: it asks for another protocol.
    pub fn send(
        &mut self,
        request: Box<Outgoing>,
        keep_head: bool,
        upgrade: bool,
    ) -> impl Future<Output = Result<Box<Response<AnswerBody>>, SendError>> + use<> {
        let shared = self.shared.clone();
        let mut unsent = self.shared.line.borrow_mut().begin(request, keep_head, upgrade);
        poll_fn(move |cx| shared.poll_exchange(&mut unsent, cx))
    }

    /// The head of the current request as it was sent, if it was kept.
    pub fn take_head(&self) -> Option<Vec<u8>> {
        self.shared.line.borrow_mut().output.take_head()
    }

    /// Informational answers to the current request that came since this was last asked; never 100 or 101.
    pub fn take_interim(&self) -> Vec<Response<()>> {
        self.shared.line.borrow_mut().take_interim()
    }

    /// Where that is, for somebody else to look at.
    pub fn kept(&self) -> Kept {
        Kept(self.shared.clone())
    }

    /// Whether any byte of an answer to the current request came.
    pub fn answered(&self) -> bool {
        self.shared.line.borrow().answered
    }

    /// The backend read nothing for `write_timeout`.
    pub fn write_timed_out(&self) -> bool {
        self.shared.line.borrow().write_timed_out
    }

    /// After a 101: the socket, and what was read beyond the head. `None` if the connection broke.
    pub fn into_socket(self) -> Option<(Socket, Bytes)> {
        self.shared.line.borrow_mut().take_socket()
    }
}

impl Drop for Http1 {
    /// Nobody waits for the rest of an exchange without its owner.
    fn drop(&mut self) {
        self.shared.line.borrow_mut().close();
        if let Some(uploader) = self.shared.uploader.take() {
            uploader.abort();
        }
    }
}

/// The head of a request, where it was sent.
pub struct Kept(Rc<Shared>);

impl Kept {
    /// A copy, if it was kept and sent.
    pub fn copy_head(&self) -> Option<Vec<u8>> {
        self.0.line.borrow().output.copy_head()
    }
}

impl Shared {
    /// Sends and receives until the head of the answer is there. `unsent` is a request without a body, until a byte of it was
    /// sent.
    fn poll_exchange(
        self: &Rc<Self>,
        unsent: &mut Option<Box<Outgoing>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Box<Response<AnswerBody>>, SendError>> {
        let mut line = self.line.borrow_mut();
        let line = &mut *line;
        if line.is_sending() {
            let result = line.poll_send(cx);
            if line.output.has_begun()
                && let Some(request) = unsent.take()
            {
                line.has_sent(request);
            }
            if let Poll::Ready(Err(error)) = result {
                return Poll::Ready(Err(self.lost(unsent, error)));
            }
            if unsent.is_some() {
                return Poll::Pending;
            }
        }
        let head = match line.poll_head(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.lost(unsent, error))),
            Poll::Ready(Ok(head)) => head,
        };
        if line.is_sending() {
            self.send_rest();
        }
        let body = Body::new(self, line, head.rest);
        Poll::Ready(Ok(line.answer(&head, body)))
    }

    fn lost(&self, unsent: &mut Option<Box<Outgoing>>, error: Lost) -> SendError {
        match unsent.take() {
            Some(request) => SendError::Unsent(request),
            None => SendError::Sent(error),
        }
    }

    /// The answer begins before the request has ended: from now on each goes on by itself.
    #[cold]
    fn send_rest(self: &Rc<Self>) {
        let shared = self.clone();
        let task = tokio::task::spawn_local(poll_fn(move |cx| {
            let mut line = shared.line.borrow_mut();
            let result = line.poll_send(cx);
            if let Poll::Ready(Err(_)) = result {
                // The answer may be whole all the same; the connection is not used again.
                line.give_up_sending();
            }
            result.map(drop)
        }));
        self.uploader.set(Some(task.abort_handle()));
    }
}
