//! One backend: the shared object that every snapshot, worker and the control plane point to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Micros;
use crate::ewma::PeakEwma;
use crate::telemetry::{BackendStats, PerWorker};

use super::gate::{Gate, State};

/// Where a backend came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Written in the configuration.
    Fixed,
    Orchestrator,
}

/// Shared by all snapshots that contain it; identified by (service, instance id), never by
/// its address, which may be used again by another instance.
#[derive(Debug)]
pub struct Backend {
    /// Unique in this process, never used again.
    pub uid: u64,
    pub service: Arc<str>,
    pub id: Arc<str>,
    pub address: SocketAddr,
    /// What is sent as Host with `host = "backend"`.
    pub authority: http::HeaderValue,
    pub source: Source,
    pub gate: Gate,
    pub latency: PeakEwma,
    pub stats: PerWorker<BackendStats>,
    /// When slow start began, in µs of the process clock; 0 = it does not ramp.
    ramp_from: AtomicU64,
}

impl Backend {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        uid: u64,
        service: Arc<str>,
        id: Arc<str>,
        address: SocketAddr,
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
            latency: PeakEwma::default(),
            stats: PerWorker::new(workers),
            ramp_from: AtomicU64::new(0),
        }
    }

    /// Starts slow start now (joined or recovered).
    pub fn ramp(&self, now: Micros) {
        self.ramp_from.store(now.max(1), Relaxed);
    }

    /// Ends slow start at once.
    pub fn end_ramp(&self) {
        self.ramp_from.store(0, Relaxed);
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
