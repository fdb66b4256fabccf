//! What the admin API asks of the control plane. The server knows nothing else of tidegate,
//! so that it is tested with a fake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use tokio::sync::broadcast;

use super::view;
use crate::config::Problem;

/// Everything that the admin API can tell or do.
///
/// Reads answer at once from memory. Changes are futures: they resolve when the change has
/// taken effect in the control plane. The server bounds each with a timeout and then drops
/// the future, so a change must be whole or not at all wherever it awaits.
pub trait Source: Send + Sync + 'static {
    fn status(&self) -> view::Status;

    /// All services, by name.
    fn services(&self) -> Vec<view::Service>;

    fn service(&self, name: &str) -> Option<view::Service>;

    /// At most `limit` records of the decision journal, newest first; each is a
    /// `scale::Record` as JSON. `None`: there is no such service.
    fn decisions(&self, name: &str, limit: usize) -> Option<Vec<serde_json::Value>>;

    /// Records what arrives at a service, or ends that.
    ///
    /// # Errors
    /// There is no such service.
    fn record(&self, service: &str, on: bool) -> Result<view::Recording, Refusal>;

    /// What backends came to since then.
    fn costs(&self, since: SystemTime) -> view::Costs;

    /// Who is not let in for a while, at most `limit` of them.
    fn bans(&self, limit: usize) -> view::Bans;

    /// Lets a network in again, or every banned network that an address is in.
    ///
    /// # Errors
    /// There is no such ban.
    fn lift_ban(&self, network: IpNet) -> Result<(), Refusal>;

    /// The effective configuration as JSON text, secrets masked.
    fn config_json(&self) -> Bytes;

    /// The metrics as Prometheus text, or as OpenMetrics 1.0 (ends with `# EOF`).
    fn metrics(&self, openmetrics: bool) -> String;

    /// `Err` says in one sentence why traffic should not be sent here (yet, or any more).
    fn ready(&self) -> Result<(), String>;

    /// Events from now on. The channel is bounded; a reader that is too slow loses the oldest.
    fn subscribe(&self) -> broadcast::Receiver<Arc<view::Event>>;

    /// Starts a drain by an operator; resolves when no new pick can reach the backend.
    fn drain<'a>(
        &'a self,
        service: &'a str,
        backend: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>>;

    /// Ends a drain by an operator.
    fn undrain<'a>(
        &'a self,
        service: &'a str,
        backend: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>>;

    /// Adds a backend; with `persist` it is there again after a restart.
    fn add_backend<'a>(
        &'a self,
        service: &'a str,
        backend: NewBackend,
        persist: bool,
    ) -> BoxFuture<'a, Result<view::Backend, Refusal>>;

    /// Drains a backend that was added here, and lets it go; with `persist` also from what is
    /// kept. Resolves when no new pick can reach it.
    fn remove_backend<'a>(
        &'a self,
        service: &'a str,
        backend: &'a str,
        persist: bool,
    ) -> BoxFuture<'a, Result<(), Refusal>>;

    /// Pins or pauses scaling. There is one order at a time; a new one replaces the old one.
    fn set_scaling<'a>(
        &'a self,
        service: &'a str,
        order: ScalingOrder,
    ) -> BoxFuture<'a, Result<view::ScalingValue, Refusal>>;

    /// Ends a pin or a pause. Fine if there is none.
    fn clear_scaling<'a>(
        &'a self,
        service: &'a str,
    ) -> BoxFuture<'a, Result<view::ScalingValue, Refusal>>;

    /// Reads the configuration again. An error changes nothing.
    fn reload(&self) -> BoxFuture<'_, Result<view::ReloadOk, Vec<Problem>>>;
}

/// A backend to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBackend {
    pub address: SocketAddr,
    /// `None`: made from the address.
    pub id: Option<String>,
    /// 1..=65535
    pub weight: u32,
    pub backup: bool,
    pub zone: Option<String>,
}

/// What an operator wants of the scaling of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalingOrder {
    /// Keep this many backends. Within `min..=max`, or it is refused as invalid.
    Pin { replicas: u32, lasts: Option<Duration> },
    /// Keep what there is.
    Pause { lasts: Option<Duration> },
}

/// Why a change was not made. The texts are whole sentences for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not allowed here, whoever asks. 403.
    #[error("{0}")]
    Forbidden(String),
    /// No such service or backend. 404.
    #[error("{0}")]
    NotFound(String),
    /// What was asked for makes no sense here. 422.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be done in the present state. 409.
    #[error("{0}")]
    Conflict(String),
    /// It cannot be done now; another try may succeed. 503.
    #[error("{0}")]
    Unavailable(String),
}
