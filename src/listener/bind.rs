//! Binding listener sockets: one per worker and address (SO_REUSEPORT), all or nothing.
//!
//! SO_REUSEPORT would let a second tidegate take half of the traffic instead of failing, so
//! each new address is first bound without it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::types::Listener;

/// Connections the kernel keeps for us before they are accepted (it caps this at net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// One bound address of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub listener: Arc<str>,
    /// As it is bound (port 0 resolved).
    pub address: SocketAddr,
    /// As it is configured.
    pub configured: SocketAddr,
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener \"{listener}\": cannot listen on {address}: {error}{}", hint(.error))]
pub struct BindError {
    pub listener: Arc<str>,
    pub address: SocketAddr,
    pub error: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop what listens there, or choose another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine",
        _ => "",
    }
}

/// What has to happen so that the given listeners are bound.
#[derive(Debug)]
pub struct Change {
    pub open: Vec<Opened>,
    pub close: Vec<Bound>,
}

/// A newly bound address with its sockets.
#[derive(Debug)]
pub struct Opened {
    pub bound: Bound,
    /// One for each worker.
    pub sockets: Vec<TcpListener>,
}

/// Binds what `wanted` needs beyond `bound`; nothing stays bound if anything fails.
pub fn change(
    bound: &[Bound],
    wanted: &[Arc<Listener>],
    workers: usize,
) -> Result<Change, Vec<BindError>> {
    let wants: Vec<_> =
        wanted.iter().flat_map(|l| l.address.iter().map(move |a| (l.name.clone(), *a))).collect();
    let is_bound = |name: &Arc<str>, address: &SocketAddr| {
        bound.iter().any(|b| b.listener == *name && b.configured == *address)
    };
    let close: Vec<_> = bound
        .iter()
        .filter(|b| !wants.iter().any(|(n, a)| *n == b.listener && *a == b.configured))
        .cloned()
        .collect();
    let mut open = Vec::new();
    let mut errors = Vec::new();
    for (listener, configured) in wants.iter().filter(|(n, a)| !is_bound(n, a)) {
        // An address that only changes its listener's name is still ours for a moment.
        let ours = close.iter().any(|b| b.configured == *configured && configured.port() != 0);
        match bind_all(*configured, workers, !ours) {
            Ok((address, sockets)) => open.push(Opened {
                bound: Bound { listener: listener.clone(), address, configured: *configured },
                sockets,
            }),
            Err(error) => {
                errors.push(BindError { listener: listener.clone(), address: *configured, error })
            }
        }
    }
    if errors.is_empty() { Ok(Change { open, close }) } else { Err(errors) }
}

fn bind_all(
    address: SocketAddr,
    workers: usize,
    alone: bool,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let mut address = address;
    if alone {
        // Not listening yet, so no connection is lost when it is dropped again.
        let probe = bind_one(address, false)?;
        if let (0, Some(bound)) = (address.port(), probe.local_addr()?.as_socket()) {
            address = bound;
        }
    }
    let sockets = (0..workers)
        .map(|_| {
            let socket = bind_one(address, true)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect::<io::Result<Vec<TcpListener>>>()?;
    Ok((address, sockets))
}

fn bind_one(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // [::] and 0.0.0.0 are two addresses; who wants both lists both.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(name: &str, address: &[SocketAddr]) -> Arc<Listener> {
        Arc::new(Listener::plain(name, address))
    }

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn port_zero_becomes_one_port_for_all_workers() {
        let change = change(&[], &[listener("a", &[loopback(0)])], 3).expect("bind");
        let opened = &change.open[0];
        assert_ne!(opened.bound.address.port(), 0);
        for socket in &opened.sockets {
            assert_eq!(socket.local_addr().expect("address"), opened.bound.address);
        }
        assert_eq!(opened.sockets.len(), 3);
    }

    #[test]
    fn a_port_in_use_is_an_error_and_nothing_stays_bound() {
        let first = change(&[], &[listener("a", &[loopback(0)])], 1).expect("bind");
        let taken = first.open[0].bound.address;
        let free = TcpListener::bind(loopback(0)).and_then(|l| l.local_addr()).expect("free port");
        let errors = change(&[], &[listener("b", &[free, taken])], 1).expect_err("taken");
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].address, taken);
        assert!(errors[0].to_string().contains("stop what listens there"), "{}", errors[0]);
        TcpListener::bind(free).expect("the free one was let go again");
    }

    #[test]
    fn what_stays_is_untouched_and_what_left_is_closed() {
        let a = listener("a", &[loopback(0)]);
        let b = listener("b", &[loopback(0)]);
        let first = change(&[], &[a.clone(), b], 1).expect("bind");
        let bound: Vec<_> = first.open.iter().map(|o| o.bound.clone()).collect();
        let second = change(&bound, &[a], 1).expect("bind");
        assert!(second.open.is_empty());
        assert_eq!(second.close, [bound[1].clone()]);
    }
}
