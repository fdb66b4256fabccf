//! The admin server: accepts, holds every connection to bounds, and stops.

use std::convert::Infallible;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tower_service::Service;

use super::auth::Kept;
use super::guard::{Access, Peer, Who};
use super::lockout;
use super::router::{App, endpoints, public_endpoints, router};
use super::secure::Secure;
use super::socket::{Acceptor, BindError, Bound, Io};
use super::source::Source;
use super::stall::StallGuard;
use crate::config::types as config;

/// Open connections of `admin.listen`; more wait to be accepted.
const CONNECTIONS: usize = 256;
/// Open connections of `admin.public_listen`.
const PUBLIC_CONNECTIONS: usize = 64;
/// Event streams, well under the connections.
const STREAMS: usize = 64;
/// A request head must be there by then; an idle connection is closed after as long.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A client must read something within it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// What runs may finish within it once the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Who has connected just before that may still ask.
const LAST_CALL: Duration = Duration::from_millis(250);
/// Wait after a failed accept (no descriptors left), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound admin sockets.
pub struct Server {
    main: Bound,
    public: Option<Bound>,
    access: Arc<ArcSwap<Access>>,
    /// Whether the files of unix sockets are ours to remove.
    ours: Arc<AtomicBool>,
    /// What the sockets are called when they are handed over.
    names: (String, String),
}

/// The sockets of a server once more, by name, for the process that takes over.
pub struct Spare {
    pub sockets: Vec<(String, OwnedFd)>,
    ours: Arc<AtomicBool>,
}

/// Changes who may connect while the server runs.
#[derive(Clone)]
pub struct AccessHandle(Arc<ArcSwap<Access>>);

impl Server {
    /// Binds both addresses. Needs no runtime.
    ///
    /// # Errors
    /// One of the addresses cannot be bound; then neither is.
    pub fn bind(admin: &config::Admin) -> Result<Self, BindError> {
        Self::bind_or_take(admin, &mut |_| None)
    }

    /// The same, with sockets that another tidegate bound for the same addresses and passed on:
    /// `passed` gives them by name. Files of unix sockets stay the other's until [`Spare::own`].
    ///
    /// # Errors
    /// As for [`Server::bind`].
    pub fn bind_or_take(
        admin: &config::Admin,
        passed: &mut dyn FnMut(&str) -> Option<OwnedFd>,
    ) -> Result<Self, BindError> {
        let ours = Arc::new(AtomicBool::new(true));
        let names = (
            format!("admin {:?}", admin.listen),
            format!("public admin {:?}", admin.public_listen),
        );
        let main = match passed(&names.0) {
            Some(socket) => {
                ours.store(false, SeqCst);
                Bound::passed(&admin.listen, socket, &ours)
            }
            None => Bound::new(&admin.listen, &ours)?,
        };
        let public = match (admin.public_listen, admin.public_listen.and(passed(&names.1))) {
            (_, Some(socket)) => Some(Bound::Tcp(socket.into())),
            (address, None) => address.map(Bound::tcp).transpose()?,
        };
        let access = Arc::new(ArcSwap::from_pointee(Access::new(admin, None, Kept::default())));
        Ok(Self { main, public, access, ours, names })
    }

    /// Its sockets once more.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn spare(&self) -> std::io::Result<Spare> {
        let mut sockets = vec![(self.names.0.clone(), self.main.again()?)];
        if let Some(public) = &self.public {
            sockets.push((self.names.1.clone(), public.again()?));
        }
        Ok(Spare { sockets, ours: self.ours.clone() })
    }

    /// `http://127.0.0.1:9900`, the same with `https`, or `unix:/path`, with the real port.
    pub fn url(&self) -> String {
        let url = self.main.url();
        match self.access.load().secure() {
            Secure::Off => url,
            Secure::On(_) => url.replacen("http:", "https:", 1),
        }
    }

    pub fn public_url(&self) -> Option<String> {
        self.public.as_ref().map(Bound::url)
    }

    pub fn access(&self) -> AccessHandle {
        AccessHandle(self.access.clone())
    }

    /// Answers until `stop` resolves, then lets what runs finish for a second.
    ///
    /// # Errors
    /// The sockets could not be given to the runtime.
    pub async fn serve(
        self,
        source: Arc<dyn Source>,
        stop: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let (stopping, stopped) = watch::channel(false);
        let streams = Arc::new(Semaphore::new(STREAMS));
        let app = App { source, streams, stopping: stopped.clone() };

        let public = self.public.map(Bound::start).transpose()?.map(|acceptor| Port {
            acceptor,
            router: router(public_endpoints(), app.clone()),
            access: None,
            permits: Arc::new(Semaphore::new(PUBLIC_CONNECTIONS)),
        });
        let main = Port {
            acceptor: self.main.start()?,
            router: router(endpoints(), app),
            access: Some(self.access),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
        };

        let both = async {
            match public {
                Some(public) => {
                    tokio::join!(main.run(stopped.clone()), public.run(stopped.clone()));
                }
                None => main.run(stopped.clone()).await,
            }
        };
        tokio::pin!(both);
        tokio::select! {
            () = &mut both => {}
            () = stop => {
                stopping.send_replace(true);
                both.await;
            }
        }
        Ok(())
    }
}

impl Spare {
    /// Whether the files of unix sockets go with this process.
    pub fn own(&self, ours: bool) {
        self.ours.store(ours, SeqCst);
    }
}

impl AccessHandle {
    /// Takes hosts, networks, users and tokens of a new configuration into use; connections that are
    /// open are held to them too. `tls` is what `admin.tls` was read to; new connections have it.
    pub fn set(&self, admin: &config::Admin, tls: Option<Arc<rustls::ServerConfig>>) {
        let kept = self.0.load().kept();
        self.0.store(Arc::new(Access::new(admin, tls, kept)));
    }
}

/// One socket and what it serves.
struct Port {
    acceptor: Acceptor,
    router: Router,
    /// `None`: anybody may ask, under any name (what it serves is harmless).
    access: Option<Arc<ArcSwap<Access>>>,
    permits: Arc<Semaphore>,
}

impl Port {
    async fn run(self, stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.next() => {
                    let Some((permit, io, peer)) = accepted else { continue };
                    let served = serve(io, peer, self.router.clone(), self.access.clone(), stopped.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
                Some(_) = connections.join_next() => {}
                () = stop_of(stopped.clone()) => break,
            }
        }
        drop(self.acceptor);
        let rest = async { while connections.join_next().await.is_some() {} };
        // Past the limit the set is dropped, which ends what is left.
        let _ = tokio::time::timeout(STOP_TIMEOUT, rest).await;
    }

    /// The next connection, once there is room for it. `None`: try again.
    async fn next(&self) -> Option<(tokio::sync::OwnedSemaphorePermit, Box<dyn Io>, Peer)> {
        let permit = self.permits.clone().acquire_owned().await.expect("it is never closed");
        match self.acceptor.accept().await {
            Ok((io, peer)) => Some((permit, io, peer)),
            Err(error) => {
                tracing::debug!(%error, "the admin server could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

async fn serve(
    io: Box<dyn Io>,
    peer: Peer,
    router: Router,
    access: Option<Arc<ArcSwap<Access>>>,
    stopped: watch::Receiver<bool>,
) {
    let secure = access.as_ref().map_or(Secure::Off, |access| access.load().secure().clone());
    let Some(io) = secure.open(io, HEADER_TIMEOUT).await else { return };
    let asked = Notify::new();
    let service = service_fn(|request| {
        asked.notify_one();
        answer(request, peer, router.clone(), access.clone())
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(StallGuard::new(io, WRITE_TIMEOUT)), service);
    tokio::pin!(connection);
    // How a connection ends is the client's affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop_of(stopped) => {
            // A connection that has not asked yet would be closed without an answer.
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = tokio::time::timeout(LAST_CALL, asked.notified()) => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Resolves once the server stops (or is gone, which is the same).
async fn stop_of(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    mut router: Router,
    access: Option<Arc<ArcSwap<Access>>>,
) -> Result<Response, Infallible> {
    let (head, body) = request.into_parts();
    let access = access.map(|access| access.load_full());
    let checked = match &access {
        Some(access) => access.check(peer, &head, Instant::now()).await,
        None => Ok(None),
    };
    let mut response = match checked {
        Err(problem) => {
            if !head.method.is_safe() {
                let (action, status) =
                    (format!("{} {}", head.method, head.uri.path()), problem.status);
                tracing::info!(target: "tidegate::audit", %peer, action, status = status.as_u16(), "refused: {}", problem.detail);
            }
            let status = problem.status;
            // Its body is not read, so the connection cannot be used again.
            let mut response = problem.into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            match status {
                StatusCode::UNAUTHORIZED => {
                    for how in access.iter().flat_map(|access| access.challenges()) {
                        headers.append(header::WWW_AUTHENTICATE, how);
                    }
                }
                StatusCode::TOO_MANY_REQUESTS => {
                    headers
                        .insert(header::RETRY_AFTER, HeaderValue::from(lockout::MINUTE.as_secs()));
                }
                _ => {}
            }
            response
        }
        Ok(name) => {
            let mut request = Request::from_parts(head, Body::new(body));
            request.extensions_mut().insert(Who { peer, name });
            let Ok(response) = router.call(request).await;
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    Ok(response)
}
