//! The gauges of open connections to backends.

use std::sync::Arc;

use crate::telemetry::{PerWorker, ServiceStats};

/// Keeps the gauges of open connections right.
pub struct Counted {
    stats: Arc<PerWorker<ServiceStats>>,
    worker: usize,
    idle: bool,
}

impl Counted {
    /// One more connection that carries a request.
    pub fn new(stats: Arc<PerWorker<ServiceStats>>, worker: usize) -> Self {
        stats.of(worker).connections_active.inc();
        Self { stats, worker, idle: false }
    }

    pub fn set_idle(&mut self, idle: bool) {
        let stats = self.stats.of(self.worker);
        match (self.idle, idle) {
            (false, true) => {
                stats.connections_active.dec();
                stats.connections_idle.inc();
            }
            (true, false) => {
                stats.connections_idle.dec();
                stats.connections_active.inc();
            }
            _ => {}
        }
        self.idle = idle;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let stats = self.stats.of(self.worker);
        if self.idle { stats.connections_idle.dec() } else { stats.connections_active.dec() }
    }
}
