//! What the data plane reads: one immutable value, replaced as a whole.
//!
//! A snapshot is built by the control plane from a validated configuration and the live
//! backends, and swapped in by `DataPlane::publish`. Nothing in it is changed afterwards except the
//! atomics of [`Backend`] and the statistics.

pub mod hash;
pub mod maglev;
pub mod sessions;

use std::sync::Arc;

use crate::config::types as config;
use crate::limits::Limits;
use crate::route::Router;
use crate::route::split::Split;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{ListenerStats, PerWorker, RouteStats, ServiceStats};
use crate::tls::origin::OriginClient;
use crate::upstream::admission::Admission;
use crate::upstream::backend::Backend;
use crate::upstream::budget::RetryBudget;
use crate::upstream::hold::Hold;
use crate::upstream::learned::Peers;
use crate::upstream::outlier::Outliers;
use crate::upstream::queue::Queue;

use maglev::Maglev;
use sessions::Sessions;

/// Everything a worker needs to serve a request.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with every swap.
    pub generation: u64,
    /// By listener index; accept loops find theirs by name when a snapshot comes.
    pub listeners: Vec<Arc<ListenerView>>,
    pub router: Arc<Router>,
    /// Same order as `Target.route` indexes of the router.
    pub routes: Vec<Arc<RouteView>>,
    pub services: Vec<Arc<ServiceView>>,
    /// Of the route that bans soonest; floods count there.
    pub offences: Option<Arc<Limits>>,
    /// `None` while the access log is off.
    pub access_log: Option<Arc<AccessLog>>,
}

/// One listener: what a new connection on it is held to.
#[derive(Debug)]
pub struct ListenerView {
    pub config: Arc<config::Listener>,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// For HTTP/3, where it is on.
    pub quic: Option<Arc<quinn::ServerConfig>>,
    /// Lives through reloads, keyed by listener name.
    pub stats: Arc<ListenerStats>,
}

/// One route, ready to be served.
#[derive(Debug)]
pub struct RouteView {
    pub config: Arc<config::Route>,
    /// Where its requests go; one without a service for routes that answer themselves. At least one.
    pub targets: Box<[Target]>,
    /// Which of them a request goes to.
    pub split: Split,
    /// Who gets a copy.
    pub mirror: Option<Target>,
    /// What it holds requests to, if to anything. What they count lives through reloads.
    pub limits: Option<Arc<Limits>>,
}

/// One of the services of a route.
#[derive(Debug)]
pub struct Target {
    pub name: Option<Arc<str>>,
    /// Index into [`Snapshot::services`].
    pub service: Option<usize>,
    /// Lives through reloads, keyed by (route name, service name).
    pub stats: Arc<PerWorker<RouteStats>>,
}

/// One service with the backends it has now. A change of membership makes a new view;
/// an unchanged service keeps its `Arc`, so workers can tell by pointer.
#[derive(Debug)]
pub struct ServiceView {
    pub config: Arc<config::Service>,
    /// Ready and draining backends and those that are starting; picking looks at each gate.
    pub backends: Vec<Member>,
    /// Lives through reloads.
    pub stats: Arc<PerWorker<ServiceStats>>,
    /// Lives through reloads.
    pub budget: Arc<RetryBudget>,
    /// Hedged requests among those that may be. Lives through reloads.
    pub hedges: Arc<RetryBudget>,
    /// Who may be ejected, and who is to be tried again. Lives through reloads.
    pub outliers: Arc<Outliers>,
    /// `None`: they are spoken to without TLS.
    pub tls: Option<Arc<OriginClient>>,
    /// What `adaptive` measures the backends against. Lives through reloads.
    pub peers: Arc<Peers>,
    /// For `hash`; made for these backends and kept as long as they stay the same.
    pub maglev: Option<Arc<Maglev>>,
    /// Requests that wait for a place. Lives through reloads.
    pub queue: Arc<Queue>,
    /// Who is let in while it is overloaded. Lives through reloads.
    pub admission: Arc<Admission>,
    /// For services that may have no backend. Lives through reloads.
    pub hold: Option<Arc<Hold>>,
    /// For `sticky`.
    pub sessions: Option<Sessions>,
}

/// One backend of a service, with what this configuration says of it.
#[derive(Debug, Clone)]
pub struct Member {
    pub backend: Arc<Backend>,
    pub weight: u32,
    pub backup: bool,
    /// In this proxy's zone; true as well where zones make no difference.
    pub near: bool,
}
