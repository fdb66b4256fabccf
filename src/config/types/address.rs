//! Where a backend is.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// How the path of a unix socket is written, in front of it.
pub const UNIX: &str = "unix:";
/// Bytes of such a path: what a `sockaddr_un` holds, without its end (unix(7)).
pub const LONGEST_PATH: usize = 107;

/// A socket that is listened to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    /// An absolute path.
    Unix(Arc<str>),
}

impl Address {
    /// `None`: it has neither an IP address nor a port.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<([u8; 4], u16)> for Address {
    fn from(address: ([u8; 4], u16)) -> Self {
        Self::Tcp(address.into())
    }
}

/// As it is written in the configuration: `10.0.0.1:3000`, `unix:/run/app.sock`.
impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "{UNIX}{path}"),
        }
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
