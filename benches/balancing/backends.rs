//! The backends of a balancing scenario, all in one process: a thread that serves and one that waits,
//! so that sixteen of them, a proxy and a load fit on two cores.
//!
//!     balancing_backends SCENARIO.json
//!
//! Each backend goes through phases: how long an answer takes, with which status, or that nobody
//! can connect. The time of the phases runs from SIGUSR1; before it every backend serves as in its
//! first phase. The nth request to the pool has the nth random number, whichever backend gets it,
//! so that two proxies with the same scenario face the same work. At SIGTERM the requests that each
//! backend received are printed. What the load saw is the business of `run.py`.

mod timers;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use socket2::SockRef;
use tidegate::origin::Delay;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout};

use timers::Timers;

const BACKLOG: u32 = 4096;
/// A connection over the loopback that is not there by then was dropped.
const NOT_CONNECTED: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Scenario {
    seed: u64,
    backends: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    /// Sent as `x-origin-id`.
    id: String,
    address: SocketAddr,
    /// Requests worked on at once, the others wait in order; 0 = no limit.
    slots: usize,
    /// In order of time.
    phases: Vec<Phase>,
}

#[derive(Deserialize, Clone)]
struct Phase {
    /// Seconds since the start.
    at: f64,
    #[serde(default)]
    door: Door,
    /// As `tidegate origin` has it; an hour is silence.
    delay: String,
    #[serde(default = "ok")]
    status: u16,
}

/// What meets a connection.
#[derive(Deserialize, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Door {
    #[default]
    Open,
    /// Refused; what was open is closed.
    Closed,
    /// SYNs are dropped; what was open is closed.
    Dropping,
}

fn ok() -> u16 {
    200
}

/// What the backends share.
struct Pool {
    rng: RefCell<fastrand::Rng>,
    timers: Timers,
}

struct Backend {
    id: HeaderValue,
    slots: Option<Semaphore>,
    now: Cell<(Delay, StatusCode)>,
    received: Cell<u64>,
}

type Answer = Result<Response<Full<Bytes>>, Infallible>;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("write: balancing_backends SCENARIO.json")?;
    let scenario: Scenario = serde_json::from_slice(&std::fs::read(file)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(scenario))
}

async fn run(scenario: Scenario) -> Result<(), Box<dyn Error>> {
    let rng = RefCell::new(fastrand::Rng::with_seed(scenario.seed));
    let pool = Rc::new(Pool { rng, timers: Timers::start()? });
    let (begin, begun) = watch::channel(None);
    let mut backends = Vec::new();
    let mut lives = JoinSet::new();
    for described in scenario.backends {
        let phases = parsed(&described.phases)?;
        let (first, ..) = phases.first().ok_or("a backend without a phase")?.1;
        let backend = Rc::new(Backend {
            id: HeaderValue::from_str(&described.id)?,
            slots: (described.slots > 0).then(|| Semaphore::new(described.slots)),
            now: Cell::new((first, StatusCode::OK)),
            received: Cell::new(0),
        });
        let listener = listen(described.address, BACKLOG)?;
        backends.push((described.id, backend.clone()));
        let pool = pool.clone();
        lives.spawn_local(live(pool, backend, described.address, listener, phases, begun.clone()));
    }
    let mut start = signal(SignalKind::user_defined1())?;
    let mut stop = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = start.recv() => {
                *pool.rng.borrow_mut() = fastrand::Rng::with_seed(scenario.seed);
                begin.send_replace(Some(Instant::now()));
            }
            _ = stop.recv() => break,
            // Only an error ends the life of a backend.
            Some(ended) = lives.join_next() => ended??,
        }
    }
    let received: BTreeMap<_, _> =
        backends.iter().map(|(id, backend)| (id, backend.received.get())).collect();
    println!("{}", serde_json::to_string(&received)?);
    Ok(())
}

type Parsed = (Duration, (Delay, StatusCode, Door));

fn parsed(phases: &[Phase]) -> Result<Vec<Parsed>, Box<dyn Error>> {
    let parse = |phase: &Phase| -> Result<Parsed, Box<dyn Error>> {
        let status = StatusCode::from_u16(phase.status)?;
        let at = Duration::try_from_secs_f64(phase.at)?;
        Ok((at, (phase.delay.parse()?, status, phase.door)))
    };
    phases.iter().map(parse).collect()
}

/// One backend from phase to phase; the last one has no end.
async fn live(
    pool: Rc<Pool>,
    backend: Rc<Backend>,
    address: SocketAddr,
    listener: TcpListener,
    phases: Vec<Parsed>,
    mut begun: watch::Receiver<Option<Instant>>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    let mut entrance = Entrance::Open;
    for (at, (delay, status, door)) in phases {
        let due = async {
            match begun.wait_for(Option::is_some).await.map(|start| *start) {
                Ok(Some(start)) => sleep_until(start + at).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = accept(&pool, &backend, listener.as_ref(), &mut connections) => {}
        }
        backend.now.set((delay, status));
        match door {
            Door::Open => {
                if !matches!(entrance, Entrance::Open) {
                    // A port that is listened on cannot be bound again.
                    entrance = Entrance::Open;
                    listener = Some(listen(address, BACKLOG)?);
                }
            }
            Door::Closed => {
                connections.shutdown().await;
                drop(listener.take());
                entrance = Entrance::Closed(bound(address)?);
            }
            Door::Dropping => {
                // Full before anything is cut: who connects again must not find a place that nobody serves.
                entrance = Entrance::full(address, listener.take()).await?;
                connections.shutdown().await;
            }
        }
    }
    accept(&pool, &backend, listener.as_ref(), &mut connections).await;
    Ok(())
}

/// What holds the port while nobody is served.
#[expect(dead_code, reason = "they are held, not used")]
enum Entrance {
    Open,
    /// Bound and not listened on: nobody else can take the port.
    Closed(TcpSocket),
    /// A queue of accepted connections that is full: the kernel drops further SYNs.
    Dropping(TcpListener, Vec<TcpStream>),
}

impl Entrance {
    async fn full(address: SocketAddr, open: Option<TcpListener>) -> io::Result<Self> {
        let listener = match open {
            Some(listener) => listener,
            None => listen(address, 0)?,
        };
        SockRef::from(&listener).listen(0)?;
        let mut queue = Vec::new();
        loop {
            while let Ok(stream) = timeout(NOT_CONNECTED, TcpStream::connect(address)).await {
                queue.push(stream?);
            }
            if !queue.is_empty() {
                return Ok(Self::Dropping(listener, queue));
            }
            // A proxy was quicker; its connection would be open and silent instead.
            drop(listener.accept().await?);
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    bound(address)?.listen(backlog)
}

/// Serves what connects, without an end.
async fn accept(
    pool: &Rc<Pool>,
    backend: &Rc<Backend>,
    listener: Option<&TcpListener>,
    connections: &mut JoinSet<()>,
) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Without a descriptor nothing can be done; the figures will show it.
                let Ok((stream, _)) = accepted else { continue };
                // Without it small answers wait for acknowledgements; a failure only makes it slower.
                let _ = stream.set_nodelay(true);
                let (pool, backend) = (pool.clone(), backend.clone());
                connections.spawn_local(async move {
                    let service = service_fn(|_| answer(&pool, &backend));
                    // What goes wrong on a connection is the proxy's to see.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(pool: &Pool, backend: &Backend) -> Answer {
    backend.received.set(backend.received.get() + 1);
    let mut rng = pool.rng.borrow_mut().fork();
    let _slot = match &backend.slots {
        // The semaphore is never closed.
        Some(slots) => slots.acquire().await.ok(),
        None => None,
    };
    // As it is when the work begins, which may be a phase later.
    let (delay, status) = backend.now.get();
    pool.timers.sleep(delay.sample(&mut rng)).await;
    let mut response = Response::new(Full::new(Bytes::from_static(b"ok\n")));
    *response.status_mut() = status;
    response.headers_mut().insert("x-origin-id", backend.id.clone());
    Ok(response)
}
