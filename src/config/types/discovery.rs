//! `[dns]` and `[service.NAME.discovery]`: where backends are looked for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// None: those of the system.
    pub servers: Vec<SocketAddr>,
    /// An answer is used at least this long, whatever its TTL.
    pub min_ttl: Duration,
    /// And at most this long. Never below `min_ttl`.
    pub max_ttl: Duration,
}

/// `[service.NAME.discovery]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    pub kind: DiscoveryKind,
    /// Link-local addresses and our own listeners that may be backends all the same.
    pub allow: Vec<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryKind {
    /// The addresses of a name, all at one port.
    Dns { host: String, port: u16 },
    /// SRV records, such as `_http._tcp.app.example.com`.
    Srv { name: String },
    /// A file that lists backends.
    File { path: PathBuf },
}
