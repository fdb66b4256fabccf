//! The validated configuration: what the rest of the program may rely on.
//!
//! Every value here has passed `check`, so bad states cannot be expressed where a type can
//! rule them out. Field names are the keys of the TOML file. No other module takes the whole
//! [`Config`]; each takes the small part it needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

/// One whole configuration, as made from one file and what it includes.
#[derive(Debug, Clone)]
pub struct Config {
    pub runtime: Runtime,
    pub log: Log,
    pub admin: Admin,
    pub listeners: Vec<Arc<Listener>>,
    /// In file order; the router sorts them by precedence.
    pub routes: Vec<Arc<Route>>,
    pub services: BTreeMap<Arc<str>, Arc<Service>>,
}

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
    pub watch: bool,
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
}

#[derive(Debug, Clone, PartialEq)]
pub enum AdminListen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// `[[listener]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub name: Arc<str>,
    pub address: Vec<SocketAddr>,
    pub http1: bool,
    pub http2: bool,
    pub trusted_proxies: Vec<IpNet>,
    pub max_connections: usize,
    /// 0 = no limit.
    pub max_connections_per_ip: usize,
    pub redirect_to_https: bool,
    pub timeout: ListenerTimeout,
    pub limit: ListenerLimit,
    pub tls: Option<ListenerTls>,
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
    pub h2_streams: u32,
    pub h2_resets_per_second: u32,
}

/// `[listener.tls]`
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTls {
    pub min_version: TlsVersion,
    pub session_tickets: bool,
    pub unknown_sni: UnknownSni,
    pub certificates: Vec<Certificate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    V1_2,
    V1_3,
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

/// `[[route]]`
#[derive(Debug, Clone)]
pub struct Route {
    pub name: Arc<str>,
    /// Names of listeners; empty = all.
    pub listeners: Vec<Arc<str>>,
    /// Lower case, without port; empty = any.
    pub host: Vec<HostPattern>,
    pub path: PathPattern,
    /// Empty = all.
    pub methods: Vec<http::Method>,
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    pub action: RouteAction,
    /// The whole exchange, all tries.
    pub timeout: Option<Duration>,
    /// Bytes; `None` = no limit.
    pub max_body: Option<u64>,
    pub rewrite: Option<Rewrite>,
    pub headers_in: HeaderRules,
    pub headers_out: HeaderRules,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    Exact(String),
    /// `*.example.com`, kept as `.example.com`: one or more labels before it.
    Wildcard(String),
}

#[derive(Debug, Clone)]
pub enum PathPattern {
    Exact(String),
    /// Ends at a segment: `/v1/` matches `/v1` and `/v1/x`, not `/v1x`.
    Prefix(String),
    Regex(regex::Regex),
}

#[derive(Debug, Clone)]
pub enum RouteAction {
    Service(Arc<str>),
    Redirect {
        /// `{host}`, `{path}` and `{query}` are replaced; `{path}` carries the query unless `{query}` is used.
        to: String,
        status: http::StatusCode,
    },
    Respond {
        status: http::StatusCode,
        body: bytes::Bytes,
        headers: Vec<(http::HeaderName, http::HeaderValue)>,
    },
}

/// `rewrite = { strip_prefix, add_prefix, regex, to }`
#[derive(Debug, Clone)]
pub struct Rewrite {
    pub strip_prefix: String,
    pub add_prefix: String,
    pub regex: Option<(regex::Regex, String)>,
}

/// `[route.headers_in]` and `[route.headers_out]`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeaderRules {
    pub set: Vec<(http::HeaderName, http::HeaderValue)>,
    pub remove: Vec<http::HeaderName>,
}

/// `[service.NAME]`
#[derive(Debug, Clone)]
pub struct Service {
    pub name: Arc<str>,
    pub balance: Balance,
    pub slow_start: Duration,
    /// Share of healthy ready backends under which health is ignored; 0 = off.
    pub panic_threshold: f64,
    pub forwarded: Forwarded,
    pub host: HostRule,
    pub backends: Vec<FixedBackend>,
    pub transport: Transport,
    pub health: Health,
    pub retry: Retry,
    pub orchestrator: Option<Orchestrator>,
    pub scaling: Option<Scaling>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastConnections,
    P2cEwma,
    IpHash,
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
    /// `host:port`; the host may be a name.
    pub host: String,
    pub port: u16,
    /// 1..=65535
    pub weight: u32,
    pub backup: bool,
}

/// `[service.NAME.transport]`
#[derive(Debug, Clone, PartialEq)]
pub struct Transport {
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub read_timeout: Duration,
    pub write_timeout: Duration,
    pub idle_timeout: Duration,
    pub max_idle_per_worker: usize,
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
    None,
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
    pub table: super::tree::Table,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    Keep,
    Stop,
}

/// `[service.NAME.scaling]`
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    pub mode: ScalingMode,
    pub min: u32,
    pub max: u32,
    pub interval: Duration,
    /// 0 = `max`.
    pub max_surge: u32,
    pub concurrency: Option<ConcurrencyPolicy>,
    /// In file order, by name.
    pub targets: Vec<(Arc<str>, TargetPolicy)>,
    pub thresholds: Vec<(Arc<str>, ThresholdPolicy)>,
    pub up: Behaviour,
    pub down: Behaviour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalingMode {
    On,
    UpOnly,
    DryRun,
    Off,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ConcurrencyPolicy {
    pub target: f64,
    pub utilization: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TargetPolicy {
    pub metric: Metric,
    /// For `response_time`.
    pub quantile: f64,
    /// In the metric's unit: ratio (cpu), bytes (memory), seconds (response_time), requests (in_flight), requests/s (rps).
    pub value: f64,
    pub tolerance: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ThresholdPolicy {
    pub metric: Metric,
    pub quantile: f64,
    pub up_above: f64,
    pub down_below: f64,
}

/// What a policy looks at. CPU, memory, in-flight, rps and connections are means per ready backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    Cpu,
    Memory,
    ResponseTime,
    ErrorRate,
    InFlight,
    Rps,
    Connections,
}

/// `[service.NAME.scaling.up]` and `.down`: Kubernetes HPA v2 `behavior`, same meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    pub stabilization: Duration,
    pub select: Select,
    pub limits: Vec<ScaleLimit>,
    pub cooldown: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    Max,
    Min,
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaleLimit {
    pub amount: LimitAmount,
    pub per: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LimitAmount {
    Percent(u32),
    Backends(u32),
}

#[cfg(test)]
impl Listener {
    /// A plain HTTP listener with the defaults of the reference configuration.
    pub fn plain(name: &str, address: &[SocketAddr]) -> Self {
        let seconds = Duration::from_secs;
        Self {
            name: name.into(),
            address: address.to_vec(),
            http1: true,
            http2: true,
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
