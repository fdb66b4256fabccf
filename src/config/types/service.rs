//! `[service.NAME]`: who serves it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::config::tree::Table;

use super::{Address, Discovery, Scaling, UNIX};

/// `[service.NAME]`
#[derive(Debug, Clone)]
pub struct Service {
    pub name: Arc<str>,
    pub balance: Balance,
    /// For `hash`.
    pub hash_on: HashOn,
    /// For `hash`: no backend above this multiple of the mean in flight; 0 = no bound, else 1..=1000.
    pub hash_balance: f64,
    pub sticky: Option<Sticky>,
    /// Load that backends report with their answers is believed.
    pub load_report: bool,
    /// Requests that one backend may have in flight; 0 = no limit.
    pub max_in_flight: u32,
    pub slow_start: Duration,
    /// Share of healthy ready backends under which health is ignored; 0 = off.
    pub panic_threshold: f64,
    pub forwarded: Forwarded,
    pub host: HostRule,
    pub backends: Vec<FixedBackend>,
    pub discovery: Option<Discovery>,
    pub transport: Transport,
    pub health: Health,
    pub outlier: Outlier,
    pub retry: Retry,
    pub overload: Overload,
    pub orchestrator: Option<Orchestrator>,
    pub scaling: Option<Scaling>,
}

impl Service {
    /// Clients belong to backends: a request cannot be sent to another one just to try it.
    pub fn binds_clients(&self) -> bool {
        matches!(self.balance, Balance::IpHash | Balance::NginxIpHash | Balance::Hash)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    Adaptive,
    RoundRobin,
    LeastConnections,
    Random,
    P2cEwma,
    IpHash,
    /// `ip_hash` with `hash_compat = "nginx"`.
    NginxIpHash,
    Hash,
}

/// What of a request `balance = "hash"` makes its key of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// IPv4 by the whole address, IPv6 by its /64.
    ClientIp,
    /// Path and query as the client sent them.
    Uri,
    Header(http::HeaderName),
    /// By its name; the first of several counts.
    Cookie(Box<str>),
}

/// `sticky`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// A token.
    pub cookie: Box<str>,
    /// A second or more.
    pub ttl: Duration,
    /// `None`: one is made and kept in the state directory.
    pub secret: Option<Secret>,
}

/// What only we know: 16 bytes or more, as written or from a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    pub bytes: Vec<u8>,
    /// Where it was read.
    pub file: Option<PathBuf>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("file", &self.file).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    XForwarded,
    Rfc7239,
    Both,
    Off,
}

#[derive(Debug, Clone, PartialEq)]
pub enum HostRule {
    Preserve,
    Backend,
    Fixed(http::HeaderValue),
}

/// `[[service.NAME.backend]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedBackend {
    pub id: Arc<str>,
    /// `host:port`; the host may be a name, or a unix socket with its `unix:` and the port 0.
    pub host: String,
    pub port: u16,
    /// 1..=65535
    pub weight: u32,
    pub backup: bool,
    pub zone: Option<Arc<str>>,
}

impl FixedBackend {
    /// Where it is; `None`: its host is a name.
    pub fn address(&self) -> Option<Address> {
        if let Some(path) = self.host.strip_prefix(UNIX) {
            return Some(Address::Unix(path.into()));
        }
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, self.port).into())
    }
}

/// `[service.NAME.transport]`
#[derive(Debug, Clone, PartialEq)]
pub struct Transport {
    pub protocol: Protocol,
    pub tls: Option<OriginTls>,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub read_timeout: Duration,
    pub write_timeout: Duration,
    pub idle_timeout: Duration,
    pub max_idle_per_worker: usize,
    pub proxy_protocol: ProxyHeader,
}

impl Transport {
    /// Unused connections that a worker keeps to a backend. One that stands for a client is not used by others.
    pub fn kept(&self) -> usize {
        if self.names_clients() { 0 } else { self.max_idle_per_worker }
    }

    /// Each connection begins with whom it stands for.
    pub fn names_clients(&self) -> bool {
        self.proxy_protocol != ProxyHeader::Off
    }
}

/// Whether a connection begins with whom it stands for, in which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    Off,
    V1,
    V2,
}

/// What is spoken to backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
    /// By ALPN: HTTP/2 where a backend has it.
    Auto,
}

/// `transport.tls`
#[derive(Debug, Clone, PartialEq)]
pub struct OriginTls {
    /// Whose certificates are believed; `None` = those that the system believes.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, for backends that ask for one; both or none.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// What a backend's certificate must be for; `None` = its host.
    pub server_name: Option<ServerName<'static>>,
    pub verify: bool,
}

impl Transport {
    /// Certificate and key files.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let tls = self.tls.iter();
        tls.flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]).flatten().cloned()
    }
}

/// `[service.NAME.health]`, with `auto` already resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    pub kind: HealthKind,
    pub path: String,
    pub method: http::Method,
    /// 0 = the backend's own.
    pub port: u16,
    pub host: Option<http::HeaderValue>,
    /// Inclusive ranges of status codes.
    pub expect_status: Vec<(u16, u16)>,
    pub expect_body: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy_after: u32,
    pub unhealthy_after: u32,
    pub start_period: Duration,
    pub max_parallel: usize,
}

/// What `auto` becomes depends on where a backend comes from, so both answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthKind {
    /// For backends written in the file.
    pub fixed: Check,
    /// For backends that an orchestrator or discovery brings.
    pub orchestrated: Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Http,
    Tcp,
    /// grpc.health.v1; `path` names the service that is asked for, or none for the server as a whole.
    Grpc,
    None,
}

/// `[service.NAME.outlier]`
#[derive(Debug, Clone, PartialEq)]
pub struct Outlier {
    /// 502, 503, 504, connect errors, resets and timeouts in a row; 0 = off.
    pub consecutive_failures: u32,
    /// Standard deviations below the mean success rate; 0 = off.
    pub success_rate_deviations: f64,
    /// Percent of requests, 0..=100; 0 = off.
    pub failure_percent: u32,
    /// For the first time; multiplied by the times ejected.
    pub ejection_time: Duration,
    pub max_ejection_time: Duration,
    /// Share of the ready backends, 0..=1; 0 = nobody is ejected.
    pub max_ejected: f64,
}

/// `[service.NAME.retry]`
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Further tries, each on another backend.
    pub attempts: u32,
    pub on: RetryOn,
    pub methods: Vec<http::Method>,
    /// Share of requests, 0..=1.
    pub budget: f64,
    /// Retries a second that are always allowed.
    pub budget_min: u32,
    /// Bytes of a body kept for a resend; at most 64 KiB.
    pub body_buffer: usize,
    pub backoff: Duration,
    pub hedge: Hedge,
}

/// When a request is sent to a second backend although the first has not failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hedge {
    Off,
    /// When its answer takes longer than 95 of 100 lately did.
    P95,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryOn {
    pub connect: bool,
    pub reset: bool,
    pub refused: bool,
    pub timeout: bool,
    /// Statuses received from a backend.
    pub statuses: Vec<u16>,
}

/// `[service.NAME.overload]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overload {
    /// Whether the limits of backends without `max_in_flight` are learned.
    pub concurrency: bool,
    /// Whether no more is let in than the backends answer.
    pub rate_limit: bool,
    pub queue: QueueLimit,
    /// How long a request waits at most.
    pub queue_timeout: Duration,
}

impl Overload {
    /// Requests that go before others wait so many times longer than these, and all do while capacity comes.
    pub const PATIENT: u32 = 10;

    /// How long such a request waits at most.
    pub fn patience(&self) -> Duration {
        self.queue_timeout.saturating_mul(Self::PATIENT)
    }
}

/// How many requests may wait while every backend has `max_in_flight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueLimit {
    /// Half of what the backends that take requests may have in flight together, rounded up.
    Auto,
    /// 0 = none waits.
    Requests(u32),
}

impl QueueLimit {
    /// For backends that may have so many in flight together.
    pub fn requests(self, places: u32) -> u32 {
        match self {
            Self::Requests(most) => most,
            Self::Auto => places.div_ceil(2),
        }
    }
}

impl Orchestrator {
    /// Another autoscaler starts and stops backends; here is only decided how many there should be.
    pub fn is_elsewhere(&self) -> bool {
        self.kind == "none"
    }
}

/// `[service.NAME.orchestrator]`: what is common, and the kind's own table for its factory.
#[derive(Debug, Clone, PartialEq)]
pub struct Orchestrator {
    pub kind: String,
    pub start_timeout: Duration,
    pub drain_timeout: Duration,
    pub tunnel_drain_timeout: Duration,
    pub stop_grace: Duration,
    pub on_exit: OnExit,
    /// The kind's own keys with their places in the file.
    pub table: Table,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    Keep,
    Stop,
}
