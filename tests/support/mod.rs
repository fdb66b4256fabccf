//! The harness of the integration tests: the real binary, real sockets, fluent set-up.
//!
//! ```ignore
//! let a = Origin::new().id("a").delay("20ms").start();
//! let proxy = Proxy::new().backend(&a).service("balance = \"round_robin\"").run();
//! let answer = get(&proxy.url("/hello"));
//! assert_eq!((answer.status, answer.header("x-origin-id")), (200, Some("a")));
//! wait_until("the request is counted", || {
//!     proxy.metric("tidegate_requests_total", &[("code", "200")]) == 1.0
//! });
//! ```
//!
//! | file | what it gives |
//! |---|---|
//! | `proxy` | [`Proxy`] writes a configuration and runs `tidegate run`; [`Running`] talks to it |
//! | `origin` | [`Origin`]: `tidegate origin` as a backend, with the counters of its `/stats` |
//! | `raw` | [`RawOrigin`]: a socket that records bytes and plays a script, for odd answers |
//! | `nginx` | [`Nginx`]: nginx as a backend |
//! | `haproxy` | [`Haproxy`]: HAProxy before or behind tidegate |
//! | `python` | [`PyPeer`], [`PyTalk`]: programs of tests/peers, for libraries that only Python has |
//! | `http3` | [`http3::Peer`]: clients for HTTP/3, and for bytes that are no HTTP/3 |
//! | `http` | [`get`], [`send`]: a plain blocking HTTP/1.1 client that hides nothing |
//! | `connection` | [`Connection`]: a client's connection, driven byte by byte |
//! | `frames` | an HTTP/2 client's connection, driven frame by frame |
//! | `crowd` | [`Crowd`]: many clients with an address each |
//! | `siege` | [`siege::Siege`]: an attack beside polite clients |
//! | `process` | [`Process`]: a child with captured output; nothing of it outlives its test |
//! | `scaled` | [`Proxy::origins`]: backends that tidegate starts; their sizes, processes, records |
//! | `sources` | [`Redis`], [`Prometheus`]: numbers to scale by |
//! | `dns` | [`Nameserver`]: answers and counts what is asked over UDP |
//! | `island` | [`Islands`]: backends that differ in their address and share a port |
//! | `events` | [`Events`] follows `/v1/events` |
//! | `load` | [`Load`]: an open-loop load beside a test |
//! | `formula` | checks the arithmetic of scaling records |
//! | `tool` | [`curl`] and other programs; [`missing`] says which are not there |
//!
//! Rules: everything listens on port 0 of the loopback and says where; no test sleeps, it waits
//! for an event, a counter or a state with [`wait_until`]; a test whose program is not installed
//! begins with `if missing("NAME") { return; }`, and `tests/run` lists it as skipped.

// Each test uses a part of it, and not every part is used by a test at any time.
#![allow(dead_code, unused_imports)]

mod connection;
mod crowd;
mod dns;
mod events;
pub mod formula;
pub mod frames;
mod h2_origin;
mod haproxy;
mod http;
pub mod http3;
mod island;
mod load;
mod nginx;
mod origin;
mod process;
mod proxy;
mod python;
mod raw;
mod scaled;
pub mod siege;
mod sources;
mod tool;

pub use connection::Connection;
pub use crowd::Crowd;
pub use dns::{Nameserver, Says};
pub use events::Events;
pub use h2_origin::H2Origin;
pub use haproxy::Haproxy;
pub use http::{Answer, connect, get, read_answer, send};
pub use island::Islands;
pub use load::{Load, gets};
pub use nginx::Nginx;
pub use origin::Origin;
pub use process::{Process, lives, started_by};
pub use proxy::{Proxy, Running};
pub use python::{PyPeer, PyTalk, missing_aioquic, missing_module};
pub use raw::{RawOrigin, Step};
pub use scaled::{each, port_range, quickstart};
pub use sources::{Prometheus, Redis};
pub use tool::{Output, certificate, curl, missing, run};

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long anything may take. Far above what it takes, so that a busy machine fails no test.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Something with an address that a proxy can send requests to.
pub trait Backend {
    fn address(&self) -> SocketAddr;
    /// Its id in the configuration; `None`: made from the address.
    fn id(&self) -> Option<&str> {
        None
    }
}

impl Backend for SocketAddr {
    fn address(&self) -> SocketAddr {
        *self
    }
}

/// Waits for a condition, for a minute at most. The one place that waits without an event.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until there is a value, for a minute at most.
#[track_caller]
pub fn wait_for<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An address that refuses connections. Nothing is bound there; another process could take it,
/// so use it for what is to be refused only.
pub fn refusing_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port on the loopback")
}
