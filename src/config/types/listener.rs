//! `[[listener]]`: the way in.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

/// `[[listener]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub name: Arc<str>,
    pub address: Vec<ListenAddress>,
    pub http1: bool,
    pub http2: bool,
    /// Over QUIC, on the UDP ports of the same numbers.
    pub http3: bool,
    /// Connections begin with a PROXY header, from trusted proxies only.
    pub proxy_protocol: bool,
    pub trusted_proxies: Vec<IpNet>,
    pub max_connections: usize,
    /// 0 = no limit.
    pub max_connections_per_ip: usize,
    pub redirect_to_https: bool,
    pub timeout: ListenerTimeout,
    pub limit: ListenerLimit,
    pub tls: Option<ListenerTls>,
}

/// One of a listener's `address`es.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// To be bound.
    Socket(SocketAddr),
    /// `fd:NAME`: a service manager passes it, bound already.
    Passed(Arc<str>),
}

/// `[listener.timeout]`
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTimeout {
    pub handshake: Duration,
    pub header: Duration,
    pub body: Duration,
    pub keep_alive: Duration,
    pub write: Duration,
    pub tunnel: Duration,
}

/// `[listener.limit]`
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerLimit {
    pub header_bytes: usize,
    pub header_count: usize,
    pub uri_bytes: usize,
    /// Of an HTTP/2 or 3 connection, at once.
    pub h2_streams: u32,
    /// Likewise.
    pub h2_resets_per_second: u32,
}

/// `[listener.tls]`
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTls {
    pub min_version: TlsVersion,
    pub session_tickets: bool,
    /// Whose certificates clients may show; `None` = they are not asked for one.
    pub client_ca: Option<PathBuf>,
    pub client_auth: ClientAuth,
    pub unknown_sni: UnknownSni,
    pub certificates: Vec<Certificate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    Require,
    Request,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownSni {
    Reject,
    Default,
}

/// `[[listener.tls.certificate]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl ListenAddress {
    /// Where it is, as far as the configuration knows.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Passed(_) => None,
        }
    }
}

impl fmt::Display for ListenAddress {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => write!(f, "{address}"),
            Self::Passed(name) => write!(f, "fd:{name}"),
        }
    }
}

#[cfg(test)]
impl Listener {
    /// A plain HTTP listener with the defaults of the reference configuration.
    pub fn plain(name: &str, address: &[SocketAddr]) -> Self {
        let seconds = Duration::from_secs;
        Self {
            name: name.into(),
            address: address.iter().copied().map(ListenAddress::Socket).collect(),
            http1: true,
            http2: true,
            http3: false,
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            max_connections: 16384,
            max_connections_per_ip: 0,
            redirect_to_https: false,
            timeout: ListenerTimeout {
                handshake: seconds(10),
                header: seconds(10),
                body: seconds(30),
                keep_alive: seconds(75),
                write: seconds(30),
                tunnel: seconds(3600),
            },
            limit: ListenerLimit {
                header_bytes: 32 * 1024,
                header_count: 100,
                uri_bytes: 8 * 1024,
                h2_streams: 128,
                h2_resets_per_second: 100,
            },
            tls: None,
        }
    }
}
