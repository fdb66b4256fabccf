//! Sliding windows over what the workers counted: rates, means and quantiles of the last seconds.
//!
//! The control plane ticks about once a second. Each tick reads every recorder and keeps the difference
//! to the tick before. What is not ticked any more is forgotten, so what is kept follows what lives.
//! Status, metrics and scaling ask; nothing here decides. Time is passed in.

mod backend;
mod service;
mod stretches;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Micros;

use super::histogram::{Histogram, Merged, Reading, Sparse};
use super::{BackendStats, PerWorker, RouteStats, ServiceStats, WorkerStats};

pub use backend::BackendReading;
pub use service::ServiceReading;
pub use stretches::{Stretch, Stretches};

use backend::BackendWindow;
use service::ServiceWindow;

/// The longest window of a service.
pub const SERVICE_SPAN: Duration = Duration::from_secs(300);
/// The longest window of a backend. With traffic on all of them each second is kept ten thousand
/// times, so no longer than anyone asks for.
pub const BACKEND_SPAN: Duration = Duration::from_secs(15);

/// Windows of all services and backends, and life-long histograms of all that is exported.
#[derive(Debug, Default)]
pub struct Windows {
    tick: u64,
    services: HashMap<Arc<str>, Seen<ServiceWindow>>,
    backends: HashMap<u64, Seen<BackendWindow>>,
    /// By the address of the recorder.
    routes: HashMap<usize, Seen<RouteTotal>>,
    stall: Total,
}

#[derive(Debug)]
struct Seen<T> {
    tick: u64,
    value: T,
}

impl Windows {
    /// Begins a tick. When it is dropped, what it was not told of is forgotten.
    pub fn tick(&mut self, now: Micros) -> Tick<'_> {
        self.tick += 1;
        Tick { windows: self, now }
    }

    /// The last `span` of a service, as of its last tick; `None` before its second tick.
    pub fn service(&self, name: &str, span: Duration) -> Option<ServiceReading> {
        self.services.get(name)?.value.reading(span)
    }

    /// Waits of all requests of a service for a place so far.
    pub fn queue_wait_total(&self, name: &str) -> Option<&Merged> {
        self.services.get(name)?.value.queue_wait()
    }

    /// The last `span` of a backend, as of its last tick; `None` before its second tick.
    pub fn backend(&self, uid: u64, span: Duration) -> Option<BackendReading> {
        self.backends.get(&uid)?.value.reading(span)
    }

    /// Requests and failures of a backend in the last `span`, as of its last tick.
    pub fn backend_counts(&self, uid: u64, span: Duration) -> (u64, u64) {
        self.backends.get(&uid).map_or((0, 0), |seen| seen.value.counts(span))
    }

    /// Durations of all requests of a route so far.
    pub fn route_total(&self, stats: &Arc<PerWorker<RouteStats>>) -> Option<&Merged> {
        self.routes.get(&key(stats))?.value.total.merged()
    }

    /// Durations of all tries on a backend so far.
    pub fn backend_total(&self, uid: u64) -> Option<&Merged> {
        self.backends.get(&uid)?.value.total()
    }

    /// How many stretches of time are kept, of services and of backends.
    #[cfg(test)]
    fn kept(&self) -> (usize, usize) {
        let services = self.services.values().map(|seen| seen.value.kept()).sum();
        (services, self.backends.values().map(|seen| seen.value.kept()).sum())
    }

    /// How late the workers' ticks came so far.
    pub fn stall_total(&self) -> Option<&Merged> {
        self.stall.merged()
    }
}

/// Held, so that the address of the recorder cannot become another's.
#[derive(Debug)]
struct RouteTotal {
    _stats: Arc<PerWorker<RouteStats>>,
    total: Total,
}

impl RouteTotal {
    fn new(stats: &Arc<PerWorker<RouteStats>>) -> Self {
        Self { _stats: stats.clone(), total: Total::default() }
    }
}

fn key(stats: &Arc<PerWorker<RouteStats>>) -> usize {
    Arc::as_ptr(stats).addr()
}

/// One round of reading. Tell it of everything that lives.
#[derive(Debug)]
pub struct Tick<'a> {
    windows: &'a mut Windows,
    now: Micros,
}

impl Tick<'_> {
    /// Keeps windows of up to `span`, at most [`SERVICE_SPAN`]. A service that came back with other
    /// recorders under its name starts anew.
    pub fn service(
        &mut self,
        name: &Arc<str>,
        stats: &Arc<PerWorker<ServiceStats>>,
        span: Duration,
    ) {
        let tick = self.windows.tick;
        match self.windows.services.get_mut(name) {
            Some(seen) if seen.value.is_of(stats) => {
                seen.tick = tick;
                seen.value.tick(self.now, span);
            }
            _ => {
                let value = ServiceWindow::new(stats.clone(), self.now);
                self.windows.services.insert(name.clone(), Seen { tick, value });
            }
        }
    }

    pub fn backend(&mut self, uid: u64, stats: &PerWorker<BackendStats>) {
        let tick = self.windows.tick;
        let seen = self
            .windows
            .backends
            .entry(uid)
            .or_insert_with(|| Seen { tick, value: BackendWindow::default() });
        seen.tick = tick;
        seen.value.tick(self.now, stats);
    }

    pub fn route(&mut self, stats: &Arc<PerWorker<RouteStats>>) {
        let tick = self.windows.tick;
        let seen = self
            .windows
            .routes
            .entry(key(stats))
            .or_insert_with(|| Seen { tick, value: RouteTotal::new(stats) });
        seen.tick = tick;
        seen.value.total.tick(stats.iter().map(|s| &s.duration));
    }

    pub fn workers(&mut self, stats: &PerWorker<WorkerStats>) {
        self.windows.stall.tick(stats.iter().map(|s| &s.stall));
    }
}

impl Drop for Tick<'_> {
    fn drop(&mut self) {
        let tick = self.windows.tick;
        self.windows.services.retain(|_, seen| seen.tick == tick);
        self.windows.backends.retain(|_, seen| seen.tick == tick);
        self.windows.routes.retain(|_, seen| seen.tick == tick);
    }
}

/// What histograms got since the tick before; nothing is kept until the first value.
#[derive(Debug, Default)]
struct Delta(Option<Box<Reading>>);

impl Delta {
    fn tick<'a>(&mut self, histograms: impl Iterator<Item = &'a Histogram> + Clone) -> Sparse {
        if self.0.is_none() && !histograms.clone().any(Histogram::is_used) {
            return Sparse::default();
        }
        let last = &mut **self.0.get_or_insert_default();
        if last.is_current(histograms.clone()) {
            return Sparse::default();
        }
        let reading = Reading::of(histograms);
        let part = reading.since(last);
        *last = reading;
        part
    }
}

/// A histogram of a whole life, made from wrapping readings; nothing until the first value.
#[derive(Debug, Default)]
struct Total {
    delta: Delta,
    merged: Option<Box<Merged>>,
}

impl Total {
    /// Takes in what came since the last tick.
    fn tick<'a>(&mut self, histograms: impl Iterator<Item = &'a Histogram> + Clone) {
        let part = self.delta.tick(histograms);
        if !part.is_empty() {
            self.merged.get_or_insert_default().add(&part);
        }
    }

    fn merged(&self) -> Option<&Merged> {
        self.merged.as_deref()
    }
}
