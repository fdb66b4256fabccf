//! One HTTP/1.1 connection to a backend: hyper's client connection, driven by one task per
//! connection (not per request).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt;
use http::{Method, Request, Response};
use http_body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::clock::Micros;
use crate::framing::{Asked, Flaw};
use crate::worker::timers::Timers;

use super::body::RequestBody;
use super::conn::{AnswerBody, SendError};
use super::counted::Counted;
use super::io::{UpstreamIo, Wire};
use super::socket::Socket;
use super::stall;

/// A connection that one request at a time may use.
pub struct Http1 {
    counted: Counted,
    sender: http1::SendRequest<RequestBody>,
    shared: Rc<Shared>,
    driver: tokio::task::AbortHandle,
    /// When it was put into the pool.
    pub idle_since: Micros,
}

/// What the connection's task and its user both see.
struct Shared {
    wire: Rc<Wire>,
    write_timed_out: Cell<bool>,
    /// The request asks for another protocol: the socket is wanted back after a 101.
    upgrade: Cell<bool>,
    /// Where the socket goes then.
    upgraded: RefCell<Option<(Socket, Bytes)>>,
    ended: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Http1 {
    /// Speaks HTTP/1.1 on a socket from now on.
    ///
    /// # Errors
    /// None that is known of: nothing is sent yet.
    pub async fn begin(
        socket: Socket,
        write_timeout: Duration,
        timers: &Rc<Timers>,
        now: impl Fn() -> Micros + 'static,
        counted: Counted,
    ) -> std::io::Result<Self> {
        let wire = Rc::new(Wire::default());
        let io = TokioIo::new(UpstreamIo::http1(socket, wire.clone()));
        let (sender, connection) =
            http1::Builder::new().handshake(io).await.map_err(std::io::Error::other)?;
        let shared = Rc::new(Shared {
            wire,
            write_timed_out: Cell::new(false),
            upgrade: Cell::new(false),
            upgraded: RefCell::new(None),
            ended: Cell::new(false),
            waiter: RefCell::new(None),
        });
        let driver = tokio::task::spawn_local(drive(
            connection,
            shared.clone(),
            timers.clone(),
            write_timeout,
            now,
        ))
        .abort_handle();
        Ok(Self { counted, sender, shared, driver, idle_since: 0 })
    }

    /// It goes into the pool, or comes out of it.
    pub fn set_idle(&mut self, idle: bool) {
        self.counted.set_idle(idle);
    }

    /// False: the backend closed it, or sent what belongs to no answer.
    pub fn is_open(&self) -> bool {
        let wire = &self.shared.wire;
        !self.sender.is_closed() && !wire.broken() && wire.flaw().is_none()
    }

    /// What was wrong with the answer.
    pub fn flaw(&self) -> Option<Flaw> {
        self.shared.wire.flaw()
    }

    /// The request before is done with.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Ready once the request before is done with; false if the connection is closed.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.sender.poll_ready(cx).map(|result| result.is_ok())
    }

    /// Sends a request and resolves with the head of the answer. `keep_head`: it may have to be
    /// sent again; `upgrade`: it asks for another protocol.
    pub fn send(
        &mut self,
        request: Request<RequestBody>,
        keep_head: bool,
        upgrade: bool,
    ) -> impl Future<Output = Result<Response<AnswerBody>, SendError>> + use<> {
        let asked = Asked { head: *request.method() == Method::HEAD, upgrade };
        self.shared.wire.begin(keep_head, request.body().is_end_stream(), asked);
        self.shared.upgrade.set(upgrade);
        self.sender.try_send_request(request).map_err(|mut error| match error.take_message() {
            Some(request) => SendError::Unsent(Box::new(request)),
            None => SendError::Sent(error.into_error()),
        })
    }

    /// The head of the current request as it was sent, if it was kept.
    pub fn take_head(&self) -> Option<Vec<u8>> {
        self.shared.wire.take_head()
    }

    /// What it has sent, for somebody else to look at.
    pub fn wire(&self) -> Rc<Wire> {
        self.shared.wire.clone()
    }

    /// Whether any byte of an answer to the current request came.
    pub fn answered(&self) -> bool {
        self.shared.wire.answered()
    }

    /// The backend read nothing for `write_timeout`.
    pub fn write_timed_out(&self) -> bool {
        self.shared.write_timed_out.get()
    }

    /// After a 101: the socket, and what was read beyond the head. `None` if the connection broke.
    pub async fn into_socket(self) -> Option<(Socket, Bytes)> {
        poll_fn(|cx| {
            if self.shared.ended.get() {
                return Poll::Ready(());
            }
            *self.shared.waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        self.shared.upgraded.take()
    }
}

impl Drop for Http1 {
    /// Left alone, the codec would go on sending a body that nobody waits for any more.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

type Codec = http1::Connection<TokioIo<UpstreamIo>, RequestBody>;

/// Runs the codec until the connection ends, and ends it when the backend reads nothing for too long.
async fn drive(
    mut codec: Codec,
    shared: Rc<Shared>,
    timers: Rc<Timers>,
    write_timeout: Duration,
    now: impl Fn() -> Micros,
) {
    let wire = shared.wire.clone();
    let done = match stall::within(&mut codec, &wire, timers, write_timeout, now).await {
        Some(result) => result.is_ok(),
        None => {
            shared.write_timed_out.set(true);
            false
        }
    };
    if done && shared.upgrade.get() {
        let parts = codec.into_parts();
        let socket = parts.io.into_inner().into_socket();
        shared.upgraded.replace(Some((socket, parts.read_buf)));
    }
    shared.ended.set(true);
    if let Some(waiter) = shared.waiter.take() {
        waiter.wake();
    }
}
