//! Connections of a load: kept, shared (HTTP/2) and opened as they are needed.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::trust;

use super::outcome::{Cause, Outcome, is_unprocessed};
use super::{LoadError, Plan, Protocol};

/// Streams on one HTTP/2 connection; the least that RFC 9113 (section 6.5.2) wants servers to allow.
const MAX_STREAMS: usize = 100;

type Body = Full<Bytes>;
type Sent = Result<Response<Incoming>, TrySendError<Request<Body>>>;

/// Sends requests of one plan.
pub(super) struct Client {
    addresses: Vec<SocketAddr>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    protocol: Protocol,
    request: Request<Body>,
    /// HTTP/1.1: connections without a request. The last used comes first.
    idle: Mutex<Vec<http1::SendRequest<Body>>>,
    /// HTTP/2: all connections; requests go round to them.
    shared: Mutex<Vec<Shared>>,
    turn: AtomicUsize,
    /// Held while an HTTP/2 connection is opened, so that a burst does not open one each.
    opening: tokio::sync::Mutex<()>,
    pub(super) opened: AtomicU64,
    pub(super) resent: AtomicU64,
}

/// One HTTP/2 connection and the streams it has.
#[derive(Clone)]
struct Shared {
    send: http2::SendRequest<Body>,
    streams: Arc<AtomicUsize>,
}

/// A connection that a request may use.
pub(super) enum Connection {
    Http1(http1::SendRequest<Body>),
    Http2(
        http2::SendRequest<Body>,
        #[expect(dead_code, reason = "counts the stream until it is dropped")] Stream,
    ),
}

/// One stream of an HTTP/2 connection, counted while it lives.
pub(super) struct Stream(Arc<AtomicUsize>);

impl Client {
    /// Resolves the host once. Blocks.
    pub(super) fn new(plan: &Plan) -> Result<Self, LoadError> {
        let bad = |what: &str| LoadError::Plan(format!("{}: {what}", plan.url));
        let authority = plan.url.authority().ok_or_else(|| bad("write http://HOST:PORT/"))?;
        let secure = match plan.url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(bad("only http:// and https:// are spoken")),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = (host, port)
            .to_socket_addrs()
            .map_err(|error| LoadError::Resolve { host: host.to_owned(), error })?
            .collect();
        let tls = if secure {
            let name = ServerName::try_from(host.to_owned()).map_err(|e| bad(&e.to_string()))?;
            let alpn: &[u8] = match plan.protocol {
                Protocol::Http1 => b"http/1.1",
                Protocol::Http2 => b"h2",
            };
            let config = trust::client(&plan.trust, None, &[alpn])?;
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        let path = plan.url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::new(plan.body.clone()));
        *request.method_mut() = plan.method.clone();
        *request.headers_mut() = plan.headers.clone();
        match plan.protocol {
            Protocol::Http1 => {
                *request.uri_mut() = path.parse().map_err(|_| bad("a bad path"))?;
                let host = HeaderValue::from_str(authority.as_str());
                request
                    .headers_mut()
                    .entry(header::HOST)
                    .or_insert(host.map_err(|_| bad("a bad host"))?);
            }
            Protocol::Http2 => *request.uri_mut() = plan.url.clone(),
        }
        Ok(Self {
            addresses,
            tls,
            protocol: plan.protocol,
            request,
            idle: Mutex::default(),
            shared: Mutex::default(),
            turn: AtomicUsize::new(0),
            opening: tokio::sync::Mutex::default(),
            opened: AtomicU64::new(0),
            resent: AtomicU64::new(0),
        })
    }

    /// Opens a connection and keeps it for later.
    pub(super) async fn warm(&self) -> Result<(), Cause> {
        let connection = self.connect().await?;
        self.keep(connection).await;
        Ok(())
    }

    /// One request and its answer to the last byte. The connection is returned if it can be
    /// used again; give it to [`Client::keep`].
    pub(super) async fn exchange(&self) -> (Outcome, Option<Connection>) {
        let mut connection = match self.kept() {
            Some(connection) => connection,
            None => match self.open().await {
                Ok(connection) => connection,
                Err(cause) => return (Outcome::Failed(cause), None),
            },
        };
        let mut sent = connection.send(self.request.clone()).await;
        if let Err(error) = &sent
            && (error.message().is_some() || is_unprocessed(error.error()))
        {
            // Certainly not looked at: sent once more, on a connection that is surely alive.
            self.resent.fetch_add(1, Relaxed);
            connection = match self.open().await {
                Ok(connection) => connection,
                Err(cause) => return (Outcome::Failed(cause), None),
            };
            sent = connection.send(self.request.clone()).await;
        }
        match sent {
            Ok(response) => match receive(response).await {
                Ok(outcome) => (outcome, Some(connection)),
                Err(error) => (Outcome::Failed(Cause::of_exchange(&error, true)), None),
            },
            Err(error) => (Outcome::Failed(Cause::of_exchange(error.error(), false)), None),
        }
    }

    /// Keeps a connection for the next request once it is ready for it.
    pub(super) async fn keep(&self, connection: Connection) {
        if let Connection::Http1(mut send) = connection
            && send.ready().await.is_ok()
        {
            lock(&self.idle).push(send);
        }
    }

    fn kept(&self) -> Option<Connection> {
        match self.protocol {
            Protocol::Http1 => {
                let mut idle = lock(&self.idle);
                while let Some(send) = idle.pop() {
                    if send.is_ready() {
                        return Some(Connection::Http1(send));
                    }
                }
                None
            }
            Protocol::Http2 => {
                let mut shared = lock(&self.shared);
                shared.retain(|connection| !connection.send.is_closed());
                let from = self.turn.fetch_add(1, Relaxed);
                (0..shared.len())
                    .map(|i| &shared[(from + i) % shared.len()])
                    .find(|connection| connection.has_room())
                    .map(Shared::stream)
            }
        }
    }

    async fn open(&self) -> Result<Connection, Cause> {
        let waited = match self.protocol {
            Protocol::Http1 => return self.connect().await,
            Protocol::Http2 => lock(&self.shared).len(),
        };
        let _opening = self.opening.lock().await;
        // Somebody else may have opened one meanwhile.
        if lock(&self.shared).len() > waited
            && let Some(connection) = self.kept()
        {
            return Ok(connection);
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<Connection, Cause> {
        let tcp = TcpStream::connect(self.addresses.as_slice())
            .await
            .map_err(|error| Cause::of_connect(&error))?;
        self.opened.fetch_add(1, Relaxed);
        let _ = tcp.set_nodelay(true);
        match &self.tls {
            None => self.handshake(tcp).await,
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await.map_err(|_| Cause::Tls)?;
                let wanted: &[u8] =
                    if self.protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
                // A server without ALPN speaks HTTP/1.1.
                match tls.get_ref().1.alpn_protocol() {
                    None if self.protocol == Protocol::Http2 => return Err(Cause::Tls),
                    Some(chosen) if chosen != wanted => return Err(Cause::Tls),
                    _ => {}
                }
                self.handshake(tls).await
            }
        }
    }

    async fn handshake<T>(&self, io: T) -> Result<Connection, Cause>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(io);
        let cause = |error: hyper::Error| Cause::of_exchange(&error, false);
        match self.protocol {
            Protocol::Http1 => {
                let (send, connection) = http1::handshake(io).await.map_err(cause)?;
                tokio::spawn(connection);
                Ok(Connection::Http1(send))
            }
            Protocol::Http2 => {
                let (send, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(1 << 20)
                    .initial_connection_window_size(1 << 24)
                    .handshake(io)
                    .await
                    .map_err(cause)?;
                tokio::spawn(connection);
                let shared = Shared { send, streams: Arc::default() };
                let stream = shared.stream();
                lock(&self.shared).push(shared);
                Ok(stream)
            }
        }
    }
}

impl Connection {
    async fn send(&mut self, request: Request<Body>) -> Sent {
        match self {
            Self::Http1(send) => send.try_send_request(request).await,
            Self::Http2(send, _) => send.try_send_request(request).await,
        }
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        self.streams.load(Relaxed) < MAX_STREAMS
    }

    fn stream(&self) -> Connection {
        self.streams.fetch_add(1, Relaxed);
        Connection::Http2(self.send.clone(), Stream(self.streams.clone()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Reads an answer to its end.
async fn receive(response: Response<Incoming>) -> hyper::Result<Outcome> {
    let (head, mut body) = response.into_parts();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len) as u64;
    }
    let backend = head.headers.get("x-origin-id").and_then(|id| id.to_str().ok());
    // A backend's own 5xx passes through with its id; the proxy's carries Proxy-Status (RFC 9209).
    let own_error = head.status.is_server_error()
        && (backend.is_none() || head.headers.contains_key("proxy-status"));
    let backend = backend.map(str::to_owned);
    Ok(Outcome::Answer { status: head.status, backend, bytes, own_error })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
