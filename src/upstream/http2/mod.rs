//! HTTP/2 to backends: few connections, each shared by many requests (RFC 9113 §5).
//!
//! The `h2` crate speaks the protocol, run by one task per connection (`driver`). It ends by itself when the backend says
//! GOAWAY and its streams are done; one that is dead without a word is found by a ping (`pings`). Whoever sends a request
//! polls its stream itself (`exchange`). hyper's client, which does the same with two tasks a request, is not used
//! because it drops informational answers (1xx).

mod body;
mod driver;
mod exchange;
mod extended;
mod pings;
mod request;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};

use crate::clock::{Clock, Micros};
use crate::http2::Tunnel;
use crate::websocket;
use crate::worker::timers::Timers;

use super::body::RequestBody;
use super::conn::SendError;
use super::counted::Counted;
use super::io::Wire;
use super::link::{Link, Tunnelled};
use super::resend;
use super::socket::Socket;

pub use body::Body;
use exchange::Exchange;
use extended::Extended;

/// Requests that share one connection; a backend may allow less.
const STREAMS: usize = 100;

/// A connection with its streams.
pub struct Multiplexed {
    shared: Rc<Shared>,
    secure: bool,
    counted: RefCell<Counted>,
    /// When its last stream ended.
    idle_since: Cell<Micros>,
}

/// What a connection's owner and the task that runs it share.
struct Shared {
    /// Gone with the owner: without streams the connection ends then.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    wire: Rc<Wire>,
    write_timed_out: Cell<bool>,
    streams: Cell<usize>,
    extended: Extended,
}

/// One request's part of it.
pub struct Stream {
    of: Rc<Multiplexed>,
    exchanged: Rc<Exchanged>,
}

/// What a stream's owner and the request on it share.
#[derive(Default)]
struct Exchanged {
    /// Of the request, as HTTP/1.1 has it.
    head: RefCell<Option<Vec<u8>>>,
    /// Informational answers, until somebody takes them.
    interim: RefCell<Vec<Response<()>>>,
    /// After a 101.
    tunnel: RefCell<Option<Tunnel>>,
    /// Sends what is left of a body whose answer has begun.
    uploader: Cell<Option<tokio::task::AbortHandle>>,
}

/// The head of a request, where it was sent.
pub struct Kept(Rc<Exchanged>);

/// The answer to a request for another protocol: rare, so boxed.
pub type Answered = Pin<Box<dyn Future<Output = Result<Response<Body>, SendError>>>>;

impl Multiplexed {
    /// Speaks HTTP/2 on a socket from now on. `write_timeout`: what a backend may take to read anything.
    ///
    /// # Errors
    /// The connection broke while the preface was sent.
    pub async fn begin(
        socket: Socket,
        write_timeout: Duration,
        timers: &Rc<Timers>,
        clock: Clock,
        counted: Counted,
    ) -> std::io::Result<Rc<Self>> {
        let secure = matches!(socket, Socket::Tls(_));
        let shared = driver::begin(socket, write_timeout, timers, clock).await?;
        let idle_since = Cell::new(0);
        Ok(Rc::new(Self { shared, secure, counted: RefCell::new(counted), idle_since }))
    }

    /// A stream, if there is room for one more.
    pub fn stream(self: &Rc<Self>) -> Option<Stream> {
        let streams = &self.shared.streams;
        if !self.is_open() || streams.get() >= STREAMS.min(self.allowed().max(1)) {
            return None;
        }
        if streams.replace(streams.get() + 1) == 0 {
            self.counted.borrow_mut().set_idle(false);
        }
        Some(Stream { of: self.clone(), exchanged: Rc::default() })
    }

    /// New streams may be begun: it was neither closed nor told to end.
    pub fn is_open(&self) -> bool {
        // Of the last one that was begun it would be told whether that waits, but no stream is begun with this.
        let mut cx = Context::from_waker(Waker::noop());
        let mut sender = self.shared.sender.borrow_mut();
        let ended =
            sender.as_mut().is_none_or(|s| matches!(s.poll_ready(&mut cx), Poll::Ready(Err(_))));
        !ended && !self.shared.wire.broken()
    }

    /// As many streams as the backend allows.
    fn allowed(&self) -> usize {
        self.shared.sender.borrow().as_ref().map_or(0, SendRequest::current_max_send_streams)
    }

    /// For one request, if one may be begun.
    fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.is_open().then(|| self.shared.sender.borrow().clone()).flatten()
    }

    /// Since when it has no stream, as of the last look.
    pub fn idle_since(&self, now: Micros) -> Option<Micros> {
        if self.shared.streams.get() > 0 {
            self.idle_since.set(0);
            return None;
        }
        if self.idle_since.get() == 0 {
            self.idle_since.set(now.max(1));
        }
        Some(self.idle_since.get())
    }
}

impl Drop for Multiplexed {
    /// The codec says GOAWAY and closes when nobody can use it any more.
    fn drop(&mut self) {
        drop(self.shared.sender.take());
    }
}

impl Stream {
    /// Sends a request and resolves with the head of the answer.
    pub fn send(
        &self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Body>, SendError>> + use<> {
        // A refused request may be sent again whatever its method is.
        *self.exchanged.head.borrow_mut() = Some(resend::head(&request));
        let exchange = Exchange::begin(&self.of, &self.exchanged, request);
        let shared = self.of.shared.clone();
        async move {
            let answer = exchange?.await?;
            shared.extended.settle();
            Ok(answer)
        }
    }

    /// The same with a request that asks for WebSocket, as HTTP/1.1 has it; what else asks for another protocol
    /// is sent as if it did not. The answer is as HTTP/1.1 has it, too: 101, or a refusal.
    pub fn open(&self, mut request: Request<RequestBody>) -> Answered {
        if !websocket::is_opening(request.headers()) {
            return Box::pin(self.send(request));
        }
        let (of, exchanged) = (self.of.clone(), self.exchanged.clone());
        Box::pin(async move {
            if !of.shared.extended.is_allowed().await {
                return Err(SendError::NoTunnels);
            }
            if !of.is_open() {
                return Err(SendError::Unsent(Box::new(request.into())));
            }
            let key = websocket::to_connect(&mut request).ok_or(SendError::NoTunnels)?;
            Exchange::begin(&of, &exchanged, request)?.opening(key).await
        })
    }

    /// Other streams may be begun beside it.
    pub fn is_open(&self) -> bool {
        self.of.is_open()
    }

    /// Informational answers to the request that came since this was last asked; never 100 or 101.
    pub fn take_interim(&self) -> Vec<Response<()>> {
        self.exchanged.interim.take()
    }

    /// After a 101.
    pub fn into_link(self) -> Option<Link> {
        let tunnel = self.exchanged.tunnel.take()?;
        Some(Link::Stream(Box::new(Tunnelled::new(tunnel, self))))
    }

    pub fn take_head(&self) -> Option<Vec<u8>> {
        self.exchanged.head.take()
    }

    /// See [`super::conn::Kept`].
    pub fn kept(&self) -> Kept {
        Kept(self.exchanged.clone())
    }

    pub fn write_timed_out(&self) -> bool {
        self.of.shared.write_timed_out.get()
    }
}

impl Drop for Stream {
    /// Nobody waits for the rest of an exchange without its owner.
    fn drop(&mut self) {
        if let Some(uploader) = self.exchanged.uploader.take() {
            uploader.abort();
        }
        let left = self.of.shared.streams.get() - 1;
        self.of.shared.streams.set(left);
        if left == 0 {
            self.of.counted.borrow_mut().set_idle(true);
        }
    }
}

impl Kept {
    /// A copy, if it was kept and sent.
    pub fn copy_head(&self) -> Option<Vec<u8>> {
        self.0.head.borrow().clone()
    }
}
