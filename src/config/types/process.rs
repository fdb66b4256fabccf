//! What concerns the process as a whole: `[runtime]`, `[log]`, `[admin]`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::Certificate;

/// `[runtime]`
#[derive(Debug, Clone, PartialEq)]
pub struct Runtime {
    /// Data-plane threads, 1..=256; already resolved (0 in the file means one per core).
    pub workers: usize,
    pub state_dir: PathBuf,
    pub shutdown_delay: Duration,
    pub shutdown_timeout: Duration,
    pub user: Option<String>,
    pub group: Option<String>,
    /// This proxy's own.
    pub zone: Option<Arc<str>>,
    pub watch: bool,
    /// Bytes that this process may take; `None`: as many as it likes.
    pub max_memory: Option<u64>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// A `tracing` filter: `info`, `debug`, or `tidegate::scale=debug,info`.
    pub level: String,
    pub format: LogFormat,
    pub access: AccessLog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

/// `[log.access]`
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    pub enabled: bool,
    /// `None` is standard output (`-`).
    pub path: Option<PathBuf>,
    pub format: AccessFormat,
    /// Share of successful requests written, 0..=1.
    pub sample: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    Json,
    Combined,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    pub listen: AdminListen,
    pub public_listen: Option<SocketAddr>,
    pub hosts: Vec<String>,
    pub allow: Vec<IpNet>,
    /// Where backends may be that are added over the API; none = nowhere.
    pub dynamic_backends: Vec<IpNet>,
    /// For `listen`, where that is TCP.
    pub tls: Option<Certificate>,
    pub users: Vec<AdminUser>,
    /// Neither users nor tokens: whoever may connect may do everything.
    pub tokens: Vec<AdminToken>,
}

/// `[[admin.user]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminUser {
    /// Without a colon.
    pub name: Arc<str>,
    pub hash: PasswordHash,
    pub role: Role,
    /// Where the hash was read, if not from the configuration itself.
    pub file: Option<PathBuf>,
}

/// How a password is kept; both are checked to be whole, and not too costly.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// A PHC string: `$argon2id$v=19$m=…,t=…,p=…$SALT$HASH`.
    Argon2id(Box<str>),
    /// `$2b$COST$…`
    Bcrypt(Box<str>),
}

/// `[[admin.token]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminToken {
    pub name: Arc<str>,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    pub role: Role,
    /// Where the hash was read, if not from the configuration itself.
    pub file: Option<PathBuf>,
}

/// What somebody may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Drains, scales, pauses, records, lifts bans.
    Operator,
    /// Reloads, adds and removes backends, reads the configuration.
    Admin,
}

impl Default for PasswordHash {
    /// Stands for one that is missing; nothing matches it.
    fn default() -> Self {
        Self::Bcrypt("".into())
    }
}

impl fmt::Debug for PasswordHash {
    /// Without the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2id(_) => "Argon2id",
            Self::Bcrypt(_) => "Bcrypt",
        })
    }
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum AdminListen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}
