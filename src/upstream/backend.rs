//! One backend: the shared object that every snapshot, worker and the control plane point to.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::Address;
use crate::ewma::PeakEwma;
use crate::telemetry::{BackendStats, PerWorker};

use super::gate::{Gate, State};
use super::learned::Learned;
use super::limit::{self, Limit};
use super::outlier::{Cap, Outlier};
use super::reported::Reported;

/// Where a backend came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Written in the configuration.
    Fixed,
    Orchestrator,
    /// Found as the addresses of a name, by SRV records, in a file, added over the admin API.
    Dns,
    Srv,
    File,
    Admin,
}

/// Shared by all snapshots that contain it; identified by (service, instance id), never by
/// its address, which may be used again by another instance.
#[derive(Debug)]
pub struct Backend {
    /// Unique in this process, never used again.
    pub uid: u64,
    pub service: Arc<str>,
    pub id: Arc<str>,
    pub address: Address,
    /// What is sent as Host with `host = "backend"`.
    pub authority: http::HeaderValue,
    pub source: Source,
    pub gate: Gate,
    /// How many requests it may have, as far as that was learned.
    pub limit: Limit,
    pub latency: PeakEwma,
    /// For `adaptive`.
    pub learned: Learned,
    pub outlier: Outlier,
    /// With `load_report`.
    pub reported: Reported,
    pub stats: PerWorker<BackendStats>,
    /// Upgraded connections (WebSocket); each is also in flight at the gate.
    tunnels: AtomicU32,
    /// It drains and its upgraded connections have had their time.
    cut: AtomicBool,
    /// When slow start began, in µs of the process clock; 0 = it does not ramp.
    ramp_from: AtomicU64,
}

impl Backend {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        uid: u64,
        service: Arc<str>,
        id: Arc<str>,
        address: Address,
        authority: http::HeaderValue,
        source: Source,
        state: State,
        workers: usize,
    ) -> Self {
        Self {
            uid,
            service,
            id,
            address,
            authority,
            source,
            gate: Gate::new(state),
            limit: Limit::default(),
            latency: PeakEwma::default(),
            learned: Learned::default(),
            outlier: Outlier::default(),
            reported: Reported::default(),
            stats: PerWorker::new(workers),
            tunnels: AtomicU32::new(0),
            cut: AtomicBool::new(false),
            ramp_from: AtomicU64::new(0),
        }
    }

    /// As one of those that are ejected under this cap.
    pub fn under(mut self, cap: &Arc<Cap>) -> Self {
        self.outlier = Outlier::new(cap.clone());
        self
    }

    /// With that limit to begin with.
    pub fn within(self, limit: limit::Terms) -> Self {
        self.limit.set(limit);
        self
    }

    /// Moves it in its life; an ejection ends where it is no longer ready. Control plane only.
    pub fn set_state(&self, state: State) {
        if self.gate.set_state(state) {
            self.outlier.give_back();
        }
    }

    /// It left its pool: it takes no place under the cap any more.
    pub fn leave_pool(&self) {
        let now = self.gate.terms().moment;
        if self.gate.uneject(now, |_| true) {
            self.outlier.give_back();
        }
    }

    /// Counts an upgraded connection until what is returned is dropped.
    pub fn tunnel(self: &Arc<Self>) -> Tunnelled {
        self.tunnels.fetch_add(1, Relaxed);
        Tunnelled(self.clone())
    }

    /// Upgraded connections there are now.
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Relaxed)
    }

    /// Says that upgraded connections are to end, or may stay after all. Who relays one looks at
    /// this when it is woken, which is the caller's part.
    pub fn cut_tunnels(&self, cut: bool) {
        self.cut.store(cut, SeqCst);
    }

    /// Starts slow start now (joined or recovered).
    pub fn ramp(&self, now: Micros) {
        self.ramp_from.store(now.max(1), Relaxed);
    }

    /// Share of its weight that it gets now, 0.1..=1: `max(0.1, t ÷ slow_start)`.
    #[inline]
    pub fn ramp_factor(&self, now: Micros, slow_start: Duration) -> f32 {
        let from = self.ramp_from.load(Relaxed);
        if from == 0 {
            return 1.0;
        }
        let age = now.saturating_sub(from) as f32;
        (age / slow_start.as_micros().max(1) as f32).clamp(0.1, 1.0)
    }

    /// Time left of slow start; zero when it is over.
    pub fn ramp_left(&self, now: Micros, slow_start: Duration) -> Duration {
        match self.ramp_from.load(Relaxed) {
            0 => Duration::ZERO,
            from => slow_start.saturating_sub(Duration::from_micros(now.saturating_sub(from))),
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // A worker with an old view may have ejected it after it left.
        self.leave_pool();
    }
}

/// One upgraded connection of a backend, for as long as it lives.
#[derive(Debug)]
pub struct Tunnelled(Arc<Backend>);

impl Tunnelled {
    /// Whether it is to end now, because its backend goes away.
    #[inline]
    pub fn is_cut(&self) -> bool {
        self.0.cut.load(SeqCst)
    }
}

impl Drop for Tunnelled {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Relaxed);
    }
}
