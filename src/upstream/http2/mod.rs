//! HTTP/2 to backends: few connections, each shared by many requests (RFC 9113 §5).
//!
//! hyper's client connection, driven by one task per connection. It ends by itself when the backend says
//! GOAWAY and its streams are done; one that is dead without a word is found by a ping.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::clock::Micros;
use crate::websocket;
use crate::worker::timers::Timers;

use super::body::RequestBody;
use super::conn::{Lost, SendError};
use super::counted::Counted;
use super::extended::Extended;
use super::io::{UpstreamIo, Wire};
use super::link::{Link, Tunnelled};
use super::resend;
use super::socket::Socket;
use super::stall;

/// Requests that share one connection; a backend may allow less.
const STREAMS: usize = 100;
/// A connection in use that says nothing for so long is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(10);
/// And is given up if that is not answered.
const PING_WAIT: Duration = Duration::from_secs(5);
/// What a backend may send ahead, by stream and by connection: bounds memory, and speed over distance.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MALFORMED: &str = "it is not valid HTTP/2";
/// Heads of answers.
const HEAD_BYTES: u32 = 64 * 1024;

/// A connection with its streams.
pub struct Multiplexed {
    sender: http2::SendRequest<RequestBody>,
    secure: bool,
    wire: Rc<Wire>,
    write_timed_out: Rc<Cell<bool>>,
    streams: Cell<usize>,
    /// As many as the backend allows.
    allowed: Rc<Cell<usize>>,
    extended: Rc<Extended>,
    counted: RefCell<Counted>,
    driver: tokio::task::AbortHandle,
    /// When its last stream ended.
    idle_since: Cell<Micros>,
}

/// One request's part of it.
pub struct Stream {
    of: Rc<Multiplexed>,
    head: Rc<RefCell<Option<Vec<u8>>>>,
    /// After a 101.
    upgraded: Rc<RefCell<Option<OnUpgrade>>>,
}

/// The answer to a request for another protocol: rare, so boxed.
pub type Answered = Pin<Box<dyn Future<Output = Result<Response<Incoming>, SendError>>>>;

/// The connection, and what the backend says of it.
struct Codec {
    connection: http2::Connection<TokioIo<UpstreamIo>, RequestBody, Local>,
    allowed: Rc<Cell<usize>>,
    extended: Rc<Extended>,
    wire: Rc<Wire>,
}

impl Future for Codec {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = Pin::new(&mut self.connection).poll(cx);
        self.allowed.set(self.connection.current_max_send_streams());
        if self.connection.is_extended_connect_protocol_enabled() {
            self.extended.allow();
        }
        // The codec reads in a task of its own, and tells nobody that settings have come.
        if !self.extended.is_settled() {
            self.wire.listen(cx.waker());
        }
        done
    }
}

/// Tasks of a connection run on the worker that owns it.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

impl Multiplexed {
    /// Speaks HTTP/2 on a socket from now on.
    ///
    /// # Errors
    /// The connection broke while the preface was sent.
    pub async fn begin(
        socket: Socket,
        write_timeout: Duration,
        timers: &Rc<Timers>,
        now: impl Fn() -> Micros + 'static,
        counted: Counted,
    ) -> std::io::Result<Rc<Self>> {
        let secure = matches!(socket, Socket::Tls(_));
        let wire = Rc::new(Wire::default());
        let io = TokioIo::new(UpstreamIo { socket, wire: wire.clone() });
        let (sender, connection) = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WAIT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES)
            .handshake(io)
            .await
            .map_err(std::io::Error::other)?;
        let write_timed_out = Rc::new(Cell::new(false));
        let allowed = Rc::new(Cell::new(STREAMS));
        let extended = Rc::new(Extended::default());
        let mut codec = Codec {
            connection,
            allowed: allowed.clone(),
            extended: extended.clone(),
            wire: wire.clone(),
        };
        let (of_wire, timed_out, timers) = (wire.clone(), write_timed_out.clone(), timers.clone());
        let driver = tokio::task::spawn_local(async move {
            let ended = stall::within(&mut codec, &of_wire, timers, write_timeout, now).await;
            timed_out.set(ended.is_none());
        })
        .abort_handle();
        Ok(Rc::new(Self {
            sender,
            secure,
            wire,
            write_timed_out,
            streams: Cell::new(0),
            allowed,
            extended,
            counted: RefCell::new(counted),
            driver,
            idle_since: Cell::new(0),
        }))
    }

    /// A stream, if there is room for one more.
    pub fn stream(self: &Rc<Self>) -> Option<Stream> {
        let most = STREAMS.min(self.allowed.get().max(1));
        if !self.is_open() || self.streams.get() >= most {
            return None;
        }
        if self.streams.replace(self.streams.get() + 1) == 0 {
            self.counted.borrow_mut().set_idle(false);
        }
        Some(Stream { of: self.clone(), head: Rc::default(), upgraded: Rc::default() })
    }

    /// New streams may be begun: it was neither closed nor told to end.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.wire.broken()
    }

    /// Since when it has no stream, as of the last look.
    pub fn idle_since(&self, now: Micros) -> Option<Micros> {
        if self.streams.get() > 0 {
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
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Stream {
    /// Sends a request and resolves with the head of the answer.
    pub fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, SendError>> + use<> {
        // A refused request may be sent again whatever its method is.
        *self.head.borrow_mut() = Some(resend::head(&request));
        address(&mut request, self.of.secure);
        let sent = self.of.sender.clone().try_send_request(request);
        let extended = self.of.extended.clone();
        async move {
            let response = sent.await.map_err(|mut error| match error.take_message() {
                Some(mut request) => {
                    unaddress(&mut request);
                    SendError::Unsent(Box::new(request))
                }
                None => not_answered(error.into_error()),
            })?;
            extended.settle();
            Ok(response)
        }
    }

    /// The same with a request that asks for WebSocket, as HTTP/1.1 has it; what else asks for another protocol
    /// is sent as if it did not. The answer is as HTTP/1.1 has it, too: 101, or a refusal.
    pub fn open(&self, mut request: Request<RequestBody>) -> Answered {
        let head = resend::head(&request);
        let Some(key) = websocket::to_connect(&mut request) else {
            return Box::pin(self.send(request));
        };
        let (of, upgraded) = (self.of.clone(), self.upgraded.clone());
        Box::pin(async move {
            if !of.extended.is_allowed().await {
                return Err(SendError::NoTunnels);
            }
            address(&mut request, of.secure);
            let result = of.sender.clone().try_send_request(request).await;
            let mut response = result.map_err(|mut error| match error.take_message() {
                Some(_) => match resend::request(&head, RequestBody::empty()) {
                    Some(request) => SendError::Unsent(Box::new(request)),
                    None => SendError::NoTunnels,
                },
                None => not_answered(error.into_error()),
            })?;
            if response.status() == StatusCode::OK {
                *upgraded.borrow_mut() = Some(hyper::upgrade::on(&mut response));
                let (mut head, body) = response.into_parts();
                websocket::accepted(&mut head.status, &mut head.headers, &key);
                return Ok(Response::from_parts(head, body));
            }
            Ok(response)
        })
    }

    /// After a 101.
    pub async fn into_link(self) -> Option<Link> {
        let upgraded = self.upgraded.borrow_mut().take()?;
        let upgraded = upgraded.await.ok()?;
        Some(Link::Stream(Box::new(Tunnelled::new(upgraded, self))))
    }

    pub fn take_head(&self) -> Option<Vec<u8>> {
        self.head.borrow_mut().take()
    }

    /// See [`super::conn::Kept`].
    pub fn kept(&self) -> Rc<RefCell<Option<Vec<u8>>>> {
        self.head.clone()
    }

    pub fn write_timed_out(&self) -> bool {
        self.of.write_timed_out.get()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let left = self.of.streams.get() - 1;
        self.of.streams.set(left);
        if left == 0 {
            self.of.counted.borrow_mut().set_idle(true);
        }
    }
}

/// Host becomes `:authority` (RFC 9113 §8.3.1).
fn address(request: &mut Request<RequestBody>, secure: bool) {
    let host = request.headers_mut().remove(header::HOST);
    // It names TE, which the codec would take out with it.
    request.headers_mut().remove(header::CONNECTION);
    let path = request.uri().path_and_query().cloned();
    let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = host.and_then(|host| http::uri::Authority::try_from(host.as_bytes()).ok());
    parts.path_and_query = path.or_else(|| Some(PathAndQuery::from_static("/")));
    // Host was checked; without an authority the target alone is sent.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
}

/// As it was before [`address`], for a connection that may speak another protocol.
fn unaddress(request: &mut Request<RequestBody>) {
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(header::HOST, host);
    }
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    *request.version_mut() = Version::HTTP_11;
}

fn not_answered(error: hyper::Error) -> SendError {
    match error {
        error if is_refused(&error) => SendError::Refused,
        error if error.is_parse() => SendError::Sent(Lost::NotHttp(MALFORMED)),
        _ => SendError::Sent(Lost::Broken),
    }
}

/// The backend has not looked at the request.
fn is_refused(error: &hyper::Error) -> bool {
    let inner = std::error::Error::source(error).and_then(|e| e.downcast_ref::<h2::Error>());
    inner.is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote())
    })
}
