//! The data plane: worker threads, each a current-thread runtime that owns its listeners,
//! its upstream connections, its snapshot and its counters.
//!
//! This file is what the control plane sees of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::types as config;
use crate::snapshot::Snapshot;

/// What the workers are started with.
pub struct Params {
    pub workers: usize,
    pub clock: Clock,
}

/// The running workers. Dropping it does not stop them; see [`DataPlane::stop`].
pub struct DataPlane {}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener \"{listener}\": {address}: {error}")]
pub struct BindError {
    pub listener: Arc<str>,
    pub address: SocketAddr,
    pub error: io::Error,
}

impl DataPlane {
    /// Starts the threads with an empty snapshot and no listeners.
    pub fn start(_params: Params) -> io::Result<Self> {
        unimplemented!()
    }

    /// Binds what is new (all or nothing), closes what is no longer there after accepting until
    /// it is empty, and leaves sockets whose address stays untouched. Each new address is first
    /// bound without SO_REUSEPORT, so that a port in use is an error.
    pub fn set_listeners(
        &self,
        _listeners: &[Arc<config::Listener>],
    ) -> Result<(), Vec<BindError>> {
        unimplemented!()
    }

    /// Addresses that are bound now, by listener name (port 0 resolved).
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        unimplemented!()
    }

    /// Swaps the snapshot in (its `generation` is set here) and wakes every worker; returns the generation.
    pub fn publish(&self, _snapshot: Snapshot) -> u64 {
        unimplemented!()
    }

    pub fn current(&self) -> Arc<Snapshot> {
        unimplemented!()
    }

    /// Resolves once every worker has taken up that generation: pools purged, no pick from an older one.
    pub async fn acknowledged(&self, _generation: u64) {
        unimplemented!()
    }

    /// Resolves with the worker's number if a worker thread ends by itself; the process must then end, non-zero.
    pub async fn died(&self) -> usize {
        unimplemented!()
    }

    /// Closes the listeners (accepting until each would block) and finishes what runs: `Connection: close`,
    /// GOAWAY, idle connections until their next answer or 1 s; resolves when all connections are gone, or
    /// at the limit, and says how many were cut.
    pub async fn stop(&self, _limit: Duration) -> usize {
        unimplemented!()
    }
}
