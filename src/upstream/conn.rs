//! One HTTP/1.1 connection to a backend, behind a narrow type: the codec below it can be
//! exchanged without anyone above noticing. Today it is hyper's client connection, driven by
//! one task per connection (not per request).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::clock::Micros;
use crate::telemetry::{PerWorker, ServiceStats};
use crate::worker::timers::{Timer, Timers};

use super::body::RequestBody;
use super::io::{UpstreamIo, Wire};

/// The answer's body, as the codec delivers it.
pub type AnswerBody = Incoming;

/// A connection that one request at a time may use.
pub struct Conn {
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
    upgraded: RefCell<Option<(TcpStream, Bytes)>>,
    ended: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

/// Keeps the gauges of open connections right.
pub struct Counted {
    stats: Arc<PerWorker<ServiceStats>>,
    worker: usize,
    idle: bool,
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum SendError {
    /// No byte of it was sent; here it is again, for another connection.
    Unsent(Box<Request<RequestBody>>),
    /// Part of it may have been seen by the backend.
    Sent(hyper::Error),
}

impl Conn {
    /// Opens a connection. The caller bounds the wait.
    pub async fn connect(
        address: SocketAddr,
        write_timeout: Duration,
        timers: &Rc<Timers>,
        now: impl Fn() -> Micros + 'static,
        counted: Counted,
    ) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let wire = Rc::new(Wire::default());
        let io = TokioIo::new(UpstreamIo { tcp, wire: wire.clone() });
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

    /// False: the backend closed it.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.shared.wire.broken()
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
        self.shared.wire.begin(keep_head, request.body().is_end_stream());
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
    pub async fn into_socket(self) -> Option<(TcpStream, Bytes)> {
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

impl Drop for Conn {
    /// Left alone, the codec would go on sending a body that nobody waits for any more.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Counted {
    /// One more connection that carries a request.
    pub fn new(stats: Arc<PerWorker<ServiceStats>>, worker: usize) -> Self {
        stats.of(worker).connections_active.inc();
        Self { stats, worker, idle: false }
    }

    fn set_idle(&mut self, idle: bool) {
        let stats = self.stats.of(self.worker);
        match (self.idle, idle) {
            (false, true) => {
                stats.connections_active.dec();
                stats.connections_idle.inc();
            }
            (true, false) => {
                stats.connections_idle.dec();
                stats.connections_active.inc();
            }
            _ => {}
        }
        self.idle = idle;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let stats = self.stats.of(self.worker);
        if self.idle { stats.connections_idle.dec() } else { stats.connections_active.dec() }
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
    let mut stall = Stall { timers, timer: None, write_timeout };
    let done = poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut codec).poll(cx) {
            return Poll::Ready(result.is_ok());
        }
        if stall.poll(shared.wire.blocked(), &now, cx).is_ready() {
            shared.write_timed_out.set(true);
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await;
    if done && shared.upgrade.get() {
        let parts = codec.into_parts();
        let io = parts.io.into_inner();
        shared.upgraded.replace(Some((io.tcp, parts.read_buf)));
    }
    shared.ended.set(true);
    if let Some(waiter) = shared.waiter.take() {
        waiter.wake();
    }
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
