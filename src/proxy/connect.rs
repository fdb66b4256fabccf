//! A new connection to a backend, or a place on one that is being opened.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use crate::config::types::Protocol;
use crate::http::fault::ConnectKind;
use crate::upstream::conn::{self, Conn, Opening};
use crate::upstream::counted::Counted;
use crate::upstream::pool::Opens;
use crate::upstream::proxy_header;
use crate::upstream::socket::Target;

use super::attempt::Try;
use super::exchange::Held;

/// Connects to the backend that is held, within `connect_timeout`. `upgrade`: the connection is to become
/// something else, which only one of its own can.
pub async fn connect(with: &Try<'_>, held: &Held, upgrade: bool) -> Result<Conn, ConnectKind> {
    let worker = with.worker;
    let view = &held.service().view;
    let transport = &view.config.transport;
    with.arm(worker.now(), transport.connect_timeout);
    let pool = &held.backend.pool;
    let shares = match transport.protocol {
        Protocol::Http1 => false,
        Protocol::H2 | Protocol::H2c => true,
        Protocol::Auto => !upgrade && pool.shares(),
    };
    let mut opens = None;
    if shares {
        match place(with, held).await? {
            Place::OnOpen(conn) => return Ok(conn),
            Place::ToOpen(guard) => opens = Some(guard),
        }
    }
    let clock = worker.clock.clone();
    let backend = &held.backend.backend;
    let preamble = proxy_header::of(transport.proxy_protocol, Some(with.ends));
    let opening = Opening {
        target: Target {
            address: &backend.address,
            authority: &backend.authority,
            tls: view.tls.as_ref(),
            http1: upgrade && transport.protocol == Protocol::Auto,
            preamble: &preamble,
        },
        prior_knowledge: transport.protocol == Protocol::H2c,
        write_timeout: transport.write_timeout,
        timers: &worker.timers,
        counted: Counted::new(view.stats.clone(), worker.id),
    };
    let mut connecting = std::pin::pin!(conn::open(opening, clock));
    let result = poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(|error| kind(&error))),
        Poll::Pending => with.timer.poll_expired(cx).map(|()| Err(ConnectKind::TimedOut)),
    })
    .await;
    with.timer.disarm();
    let conn = pool.opened(result?);
    drop(opens);
    // A backend that ends a connection at once, or allows no stream on it.
    conn.ok_or(ConnectKind::Reset)
}

/// What there is where connections are shared.
enum Place<'a> {
    OnOpen(Conn),
    /// Nobody opens one: it is for the caller to do.
    ToOpen(Opens<'a>),
}

/// Waits while somebody else opens a connection that has room for this request, too.
async fn place<'a>(with: &Try<'_>, held: &'a Held) -> Result<Place<'a>, ConnectKind> {
    let pool = &held.backend.pool;
    let idle_timeout = held.service().view.config.transport.idle_timeout;
    loop {
        if let Some(guard) = pool.open() {
            return Ok(Place::ToOpen(guard));
        }
        let opened = poll_fn(|cx| match pool.poll_opened(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => with.timer.poll_expired(cx).map(|()| false),
        });
        if !opened.await {
            return Err(ConnectKind::TimedOut);
        }
        if let Some(conn) = pool.take(held.since, idle_timeout, false) {
            with.timer.disarm();
            return Ok(Place::OnOpen(conn));
        }
    }
}

fn kind(error: &io::Error) -> ConnectKind {
    use io::ErrorKind as E;
    match error.kind() {
        // Of a unix socket: nobody has made it, or as many as it takes wait to be accepted.
        E::ConnectionRefused | E::NotFound | E::WouldBlock => ConnectKind::Refused,
        E::TimedOut => ConnectKind::TimedOut,
        E::HostUnreachable | E::NetworkUnreachable => ConnectKind::Unreachable,
        E::ConnectionReset | E::ConnectionAborted => ConnectKind::Reset,
        E::InvalidInput => ConnectKind::Certificate,
        E::InvalidData => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(_)) => ConnectKind::Certificate,
            _ => ConnectKind::Tls,
        },
        // Out of local ports, memory or descriptors: no fault of the backend.
        E::AddrNotAvailable | E::AddrInUse | E::OutOfMemory => ConnectKind::Local,
        _ => match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS) => ConnectKind::Local,
            _ => ConnectKind::Other,
        },
    }
}
