//! What is counted and measured: per-worker recorders, merged by the control plane.

/// One value per worker; each worker writes its own with plain relaxed stores.
#[derive(Debug, Default)]
pub struct PerWorker<T>(Box<[T]>);

impl<T: Default> PerWorker<T> {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| T::default()).collect())
    }
    #[inline]
    pub fn of(&self, worker: usize) -> &T {
        &self.0[worker]
    }
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

/// Counters of one route (per worker).
#[derive(Debug, Default)]
pub struct RouteStats {}

/// Counters of one service (per worker).
#[derive(Debug, Default)]
pub struct ServiceStats {}

/// Counters of one backend (per worker).
#[derive(Debug, Default)]
pub struct BackendStats {}

/// Counters of one listener (shared by the workers).
#[derive(Debug, Default)]
pub struct ListenerStats {}
