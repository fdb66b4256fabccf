//! Binding listener sockets: one per worker and address (SO_REUSEPORT), all or nothing.
//!
//! SO_REUSEPORT would let a second tidegate take half of the traffic instead of failing, so
//! each new address is first bound without it. What a service manager or the tidegate before us
//! passed on is used as it is. Listeners with HTTP/3 have UDP sockets of the same numbers as well
//! ([`super::udp`]).

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::types::{ListenAddress, Listener};

use super::given::{Given, NameError};
use super::udp::{self, Group};

/// Connections the kernel keeps for us before they are accepted (it caps this at net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// Bytes of answers that the kernel takes for a client beyond what the client's window and the congestion window let
/// it send (TCP_NOTSENT_LOWAT, tcp(7)). Without it, it takes megabytes for a client that reads nothing (4 of
/// them on loopback), and asks the backend for as many more; a fast client never has so much that is not sent.
const UNSENT: u32 = 512 * 1024;

/// What is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    /// For HTTP/3.
    Udp,
}

/// One bound address of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub listener: Arc<str>,
    pub kind: Kind,
    /// As it is bound (port 0 resolved).
    pub address: SocketAddr,
    /// As it is configured.
    pub configured: ListenAddress,
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener \"{listener}\": cannot listen on {address}{kind}: {error}{}", hint(.error))]
pub struct BindError {
    pub listener: Arc<str>,
    pub kind: Kind,
    pub address: ListenAddress,
    pub error: io::Error,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "",
            Self::Udp => " (UDP, for h3)",
        })
    }
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
    /// At least one for each worker, by its number.
    pub sockets: Vec<(usize, Listening)>,
    /// What a process that takes them over gets besides, by name.
    pub for_next: Vec<(String, OwnedFd)>,
}

/// What one worker listens on.
#[derive(Debug)]
pub enum Listening {
    Tcp(TcpListener),
    /// The one of the group that has this number.
    Udp(Arc<Group>, usize),
}

impl Listening {
    /// The same socket once more.
    pub fn spare(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Into::into),
            Self::Udp(group, number) => group.socket(*number).try_clone().map(Into::into),
        }
    }
}

impl Bound {
    /// What its sockets are called when they are handed over.
    pub fn handover_name(&self) -> String {
        handover_name(self.kind, &self.configured, &self.listener)
    }
}

fn handover_name(kind: Kind, configured: &ListenAddress, listener: &str) -> String {
    let kind = match kind {
        Kind::Tcp => "tcp",
        Kind::Udp => "udp",
    };
    format!("{kind} {configured} {listener}")
}

/// The sockets of an address that the tidegate before us passed on.
pub(super) fn handed_over(
    given: &mut Given,
    kind: Kind,
    configured: &ListenAddress,
    listener: &str,
) -> Vec<OwnedFd> {
    let handed = given.handed(&handover_name(kind, configured, listener));
    if handed.is_empty() && configured.socket().is_none_or(|address| address.port() != 0) {
        // The same address, for a listener that had another name.
        return given.handed_as(&handover_name(kind, configured, ""));
    }
    handed
}

/// Binds what `wanted` needs beyond `bound`, or finds it in what was given; nothing stays bound if
/// anything fails.
pub fn change(
    bound: &[Bound],
    wanted: &[Arc<Listener>],
    workers: usize,
    given: &mut Given,
) -> Result<Change, Vec<BindError>> {
    let wants: Vec<_> = wanted
        .iter()
        .flat_map(|l| l.address.iter().map(move |a| (l.name.clone(), a.clone())))
        .collect();
    let is_bound = |name: &Arc<str>, address: &ListenAddress| {
        let same = |b: &Bound| b.listener == *name && b.configured == *address;
        bound.iter().any(|b| b.kind == Kind::Tcp && same(b))
    };
    let close: Vec<_> = bound
        .iter()
        .filter(|b| {
            b.kind == Kind::Tcp
                && !wants.iter().any(|(n, a)| *n == b.listener && *a == b.configured)
        })
        .cloned()
        .collect();
    let mut open = Vec::new();
    let mut errors = Vec::new();
    for (listener, configured) in wants.iter().filter(|(n, a)| !is_bound(n, a)) {
        let handed = handed_over(given, Kind::Tcp, configured, listener);
        let sockets = match configured {
            _ if !handed.is_empty() => take_over(handed, configured, workers),
            ListenAddress::Passed(name) => passed(given, name, workers),
            ListenAddress::Socket(address) => {
                // An address that only changes its listener's name is still ours for a moment.
                let ours = close.iter().any(|b| b.configured == *configured && address.port() != 0);
                bind_all(*address, workers, !ours)
            }
        };
        match sockets {
            Ok((address, sockets)) => open.push(Opened {
                bound: Bound {
                    listener: listener.clone(),
                    kind: Kind::Tcp,
                    address,
                    configured: configured.clone(),
                },
                sockets,
                for_next: Vec::new(),
            }),
            Err(error) => {
                let (listener, address) = (listener.clone(), configured.clone());
                errors.push(BindError { listener, kind: Kind::Tcp, address, error });
            }
        }
    }
    let mut change = Change { open, close };
    errors.extend(udp::add(&mut change, bound, wanted, workers, given));
    if errors.is_empty() { Ok(change) } else { Err(errors) }
}

/// Sockets of one address, by the number of the worker that gets them.
type Sockets = (SocketAddr, Vec<(usize, Listening)>);

pub(super) fn bind_all(address: SocketAddr, workers: usize, alone: bool) -> io::Result<Sockets> {
    let mut address = address;
    if alone {
        // Not listening yet, so no connection is lost when it is dropped again.
        let probe = bind_one(address, false)?;
        if let (0, Some(bound)) = (address.port(), probe.local_addr()?.as_socket()) {
            address = bound;
        }
    }
    let sockets = (0..workers)
        .map(|worker| Ok((worker, Listening::Tcp(listen_one(address)?))))
        .collect::<io::Result<Vec<_>>>()?;
    Ok((address, sockets))
}

/// The socket of a service manager: one, that all workers accept from.
fn passed(given: &mut Given, name: &str, workers: usize) -> io::Result<Sockets> {
    let fd = given.activated(name).map_err(|error| match error {
        NameError::Unknown(_) => io::Error::new(io::ErrorKind::NotFound, error),
        NameError::Several(_) => io::Error::new(io::ErrorKind::InvalidInput, error),
    })?;
    let (address, first) = checked(fd)?;
    let mut sockets = Vec::new();
    for worker in 1..workers {
        sockets.push((worker, Listening::Tcp(first.try_clone()?)));
    }
    sockets.push((0, Listening::Tcp(first)));
    Ok((address, sockets))
}

/// The sockets of the tidegate before us. Each has a queue of its own with connections in it, so
/// every one is accepted from, whatever the number of workers was; who would get none gets one more.
fn take_over(
    handed: Vec<OwnedFd>,
    configured: &ListenAddress,
    workers: usize,
) -> io::Result<Sockets> {
    let mut all = handed.into_iter().map(checked).collect::<io::Result<Vec<_>>>()?;
    let address = all[0].0;
    while all.len() < workers {
        let more = match configured {
            ListenAddress::Socket(_) => listen_one(address),
            ListenAddress::Passed(_) => Err(io::ErrorKind::Unsupported.into()),
        };
        // A low port without the rights for another socket there: one queue then serves two.
        let more = more.or_else(|_| all[0].1.try_clone())?;
        all.push((address, more));
    }
    let sockets = all.into_iter().enumerate();
    let sockets = sockets.map(|(at, (_, socket))| (at % workers, Listening::Tcp(socket)));
    Ok((address, sockets.collect()))
}

/// Whether it is what it has to be: a TCP socket that listens.
fn checked(fd: OwnedFd) -> io::Result<(SocketAddr, TcpListener)> {
    let wrong = |what: &str| {
        let message =
            format!("the socket that was passed {what}; a listener needs ListenStream=IP:PORT");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    let socket = Socket::from(fd);
    let kind = socket.r#type().map_err(|_| wrong("is no socket"))?;
    let address = socket.local_addr()?.as_socket().ok_or_else(|| wrong("is not of TCP"))?;
    if kind != Type::STREAM {
        return Err(wrong("is not of TCP"));
    }
    if !socket.is_listener()? {
        return Err(wrong("does not listen"));
    }
    for_clients(&socket)?;
    Ok((address, socket.into()))
}

fn listen_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind_one(address, true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What accepted sockets inherit, which saves system calls for each.
fn for_clients(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_nonblocking(true)
}

fn bind_one(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // [::] and 0.0.0.0 are two addresses; who wants both lists both.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    for_clients(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
