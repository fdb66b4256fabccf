//! The metrics, as Prometheus reads them.
//!
//! [`Metrics`] is filled in by the control plane with references to what lives, and encoded at a
//! scrape: what is gone takes its series with it. Names and labels are a contract.

mod families;
mod limits;
mod process;
mod text;
mod waiting;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use process::Process;
pub use text::{OPENMETRICS, TEXT};

use super::histogram::Merged;
use super::{BackendStats, ListenerStats, PerWorker, RouteStats, ServiceStats};
use text::Encoder;

/// Counts by what came of something.
pub type Results = [(&'static str, u64); 3];

/// All that is exported.
#[derive(Debug, Default)]
pub struct Metrics<'a> {
    pub version: &'a str,
    pub listeners: Vec<Listener<'a>>,
    pub routes: Vec<Route<'a>>,
    pub limits: Vec<Limit<'a>>,
    pub bans: Bans,
    /// Where memory is limited.
    pub memory: Option<Memory>,
    /// Where limits are counted together with others.
    pub together: Option<Together>,
    pub services: Vec<Service<'a>>,
    pub backends: Vec<Backend<'a>>,
    /// Name and seconds until it is no longer valid.
    pub certificates: Vec<(&'a str, f64)>,
    pub reloads_ok: u64,
    pub reloads_failed: u64,
    pub handovers_ok: u64,
    pub handovers_failed: u64,
    /// Lines of the access log that were not written.
    pub log_dropped: u64,
    pub panics: u64,
    pub worker_stall: Option<&'a Merged>,
    pub process: Process,
    /// What came of the events for each target of `[[notify]]`, by result.
    pub notifications: Vec<(Arc<str>, Results)>,
}

#[derive(Debug)]
pub struct Listener<'a> {
    pub name: &'a str,
    pub stats: &'a ListenerStats,
}

#[derive(Debug)]
pub struct Route<'a> {
    pub name: &'a str,
    /// Empty for redirects and fixed answers.
    pub service: &'a str,
    /// The service gets copies.
    pub is_mirror: bool,
    pub stats: &'a PerWorker<RouteStats>,
    pub duration: Option<&'a Merged>,
}

/// Addresses that are not let in for a while.
#[derive(Debug, Default)]
pub struct Bans {
    pub active: usize,
    /// Ever.
    pub begun: u64,
    /// Requests that were refused for one.
    pub requests: u64,
}

/// What this process takes of what it may.
#[derive(Debug, Default)]
pub struct Memory {
    pub bytes: u64,
    pub limit_bytes: u64,
    /// 0: nothing is done about it, to 5: nothing is let in.
    pub level: u8,
    /// Times that unused memory was given back.
    pub given_back: u64,
}

/// The Redis of shared limits.
#[derive(Debug, Default)]
pub struct Together {
    pub up: bool,
    pub failures: u64,
    /// Requests that were counted here alone.
    pub alone: u64,
}

/// A rate limit of a route.
#[derive(Debug)]
pub struct Limit<'a> {
    pub route: &'a str,
    pub name: &'a str,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that would have been.
    pub dry_run: u64,
    /// Keys that are counted apart now.
    pub keys: usize,
    /// Requests whose key found no place of its own.
    pub overflowed: u64,
}

/// A service; everything that scaling knows may be left out.
#[derive(Debug)]
pub struct Service<'a> {
    pub name: &'a str,
    pub stats: &'a PerWorker<ServiceStats>,
    pub in_flight: u64,
    /// Requests that wait for a place at a backend.
    pub queued: u32,
    /// Requests a second that are let in; infinite: as many as come.
    pub rate: f64,
    /// Requests that wait for a backend to be started.
    pub held: u32,
    /// Upgraded connections.
    pub tunnels: u32,
    pub queue_wait: Option<&'a Merged>,
    pub desired: Option<u32>,
    /// Policy and the size it proposes.
    pub proposals: Vec<(&'a str, f64)>,
    /// Direction (`up`, `down`), reason and how often.
    pub events: Vec<(&'a str, &'a str, u64)>,
    /// Stage of the decision and whether it limits it now.
    pub limited: Vec<(&'a str, bool)>,
    /// From the order to the first passing check.
    pub start: Option<&'a Merged>,
    /// Reason and how often.
    pub ejections: Vec<(&'a str, u64)>,
}

#[derive(Debug)]
pub struct Backend<'a> {
    pub service: &'a str,
    pub id: &'a str,
    /// One of [`STATES`].
    pub state: &'a str,
    /// It is picked: ready, healthy and not ejected.
    pub up: bool,
    pub in_flight: u64,
    /// Most that it may have, as learned; 0: no limit.
    pub limit: u32,
    pub duration: Option<&'a Merged>,
    /// `None` while it has no address.
    pub stats: Option<&'a PerWorker<BackendStats>>,
    /// CPU in use, of what it may use: 1.0 = all.
    pub cpu: Option<f64>,
    pub memory_bytes: Option<u64>,
}

/// Label values of a backend's state.
pub const STATES: [&str; 6] = ["pending", "starting", "ready", "ejected", "draining", "gone"];

impl Metrics<'_> {
    /// The whole page; `openmetrics`: in that format, else Prometheus text.
    pub fn encode(&self, openmetrics: bool) -> String {
        let mut encoder = Encoder::new(openmetrics);
        self.requests(&mut encoder);
        self.mirrors(&mut encoder);
        self.limits(&mut encoder);
        self.bans(&mut encoder);
        self.memory(&mut encoder);
        self.together(&mut encoder);
        self.listeners(&mut encoder);
        self.bad_requests(&mut encoder);
        self.floods(&mut encoder);
        self.services(&mut encoder);
        self.scaling(&mut encoder);
        self.backends(&mut encoder);
        self.program(&mut encoder);
        encoder.finish()
    }
}
