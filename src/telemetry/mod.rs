//! What is counted and measured: per-worker recorders, merged by the control plane.
//!
//! Each worker writes its own [`PerWorker`] cell with plain relaxed stores; [`window`] reads the cells
//! once a second and keeps the differences; [`prometheus`] writes them out. Nothing here decides anything.

pub mod access_log;
pub mod backend;
pub mod counter;
pub mod histogram;
pub mod listener;
pub mod prometheus;
pub mod recent;
pub mod route;
pub mod service;
mod used;
pub mod window;

pub use backend::{BackendStats, Failure, Work};
pub use listener::{Connection, Flood, ListenerStats, Refusal, WorkerStats};
pub use route::{Method, MirrorDrop, RouteStats};
pub use service::{
    Cause, ConnectError, FlowReading, InFlight, LastError, RetryReason, ServiceStats, ShedReason,
};

/// One value per worker; each worker writes its own with plain relaxed stores.
#[derive(Debug, Default)]
pub struct PerWorker<T>(Box<[T]>);

impl<T: Default> PerWorker<T> {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| T::default()).collect())
    }
}

impl<T> PerWorker<T> {
    /// The cell of one worker, 0..workers.
    #[inline]
    pub fn of(&self, worker: usize) -> &T {
        &self.0[worker]
    }

    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// The sum of something over all workers.
    pub fn sum(&self, f: impl Fn(&T) -> u64) -> u64 {
        self.iter().map(f).sum()
    }
}
