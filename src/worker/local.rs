//! What one worker keeps of the snapshot for itself: its idle upstream connections and its
//! balancing state, aligned with the backends of each service.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::balance::Balancer;
use crate::clock::Micros;
use crate::snapshot::{ServiceView, Snapshot};
use crate::upstream::backend::Backend;
use crate::upstream::learned::Observer;
use crate::upstream::pool::Pool;
use crate::upstream::queue::Line;

/// The snapshot as this worker serves it.
pub struct LocalSnapshot {
    pub snapshot: Arc<Snapshot>,
    pub services: Vec<Rc<LocalService>>,
    worker: usize,
}

/// One service as this worker serves it.
pub struct LocalService {
    pub view: Arc<ServiceView>,
    /// Same order as `view.backends`.
    pub backends: Vec<Rc<LocalBackend>>,
    pub balancer: RefCell<Balancer>,
    /// Requests of this worker that wait for a place.
    pub line: Rc<Line>,
    /// For hedging where the balancer does not look at the peers itself; made when it is first needed.
    pub observer: RefCell<Option<Box<Observer>>>,
}

/// One backend as this worker sees it; kept over snapshots, found by the backend's uid.
pub struct LocalBackend {
    pub backend: Arc<Backend>,
    pub pool: Pool,
}

impl LocalSnapshot {
    pub fn new(snapshot: Arc<Snapshot>, worker: usize) -> Self {
        Self { snapshot: snapshot.clone(), services: Vec::new(), worker }.next(snapshot)
    }

    /// Takes up a new snapshot: what stays keeps its connections and its balancing state, what
    /// left or drains loses its idle connections.
    pub fn next(&self, snapshot: Arc<Snapshot>) -> Self {
        let old: HashMap<&str, &Rc<LocalService>, RandomState> =
            self.services.iter().map(|s| (&*s.view.config.name, s)).collect();
        let services: Vec<_> = snapshot
            .services
            .iter()
            .map(|view| match old.get(&*view.config.name) {
                Some(local) if Arc::ptr_eq(&local.view, view) => Rc::clone(local),
                Some(local) => Rc::new(local.next(view.clone(), self.worker)),
                None => {
                    let line = Line::new(view.queue.clone(), self.worker);
                    Rc::new(LocalService::new(view.clone(), &[], line))
                }
            })
            .collect();
        let kept: std::collections::HashSet<u64, RandomState> =
            services.iter().flat_map(|s| &s.backends).map(|b| b.backend.uid).collect();
        for backend in self.services.iter().flat_map(|s| &s.backends) {
            if !kept.contains(&backend.backend.uid) {
                backend.pool.set_closed(true);
            }
        }
        for backend in services.iter().flat_map(|s| &s.backends) {
            backend.follow_state();
        }
        // There may be another backend or another limit now, or the service is gone.
        self.services.iter().for_each(|service| service.line.look_again());
        Self { snapshot, services, worker: self.worker }
    }

    /// For requests that began with an older snapshot.
    pub fn service_named(&self, name: &str) -> Option<&Rc<LocalService>> {
        self.services.iter().find(|s| *s.view.config.name == *name)
    }

    /// Closes pooled connections that were idle for longer than their service allows, or than `most`.
    pub fn sweep(&self, now: Micros, most: Duration) {
        for service in &self.services {
            let longest = service.view.config.transport.idle_timeout.min(most);
            for backend in &service.backends {
                backend.pool.sweep(now, longest);
            }
        }
    }
}

impl LocalService {
    fn new(view: Arc<ServiceView>, old: &[Rc<LocalBackend>], line: Rc<Line>) -> Self {
        let by_uid: HashMap<u64, &Rc<LocalBackend>, RandomState> =
            old.iter().map(|b| (b.backend.uid, b)).collect();
        let backends = view
            .backends
            .iter()
            .map(|member| match by_uid.get(&member.backend.uid) {
                Some(local) => Rc::clone(local),
                None => Rc::new(LocalBackend::new(member.backend.clone())),
            })
            .collect();
        let mut balancer = Balancer::new(view.config.balance);
        balancer.sync(&view);
        Self {
            view,
            backends,
            balancer: RefCell::new(balancer),
            line,
            observer: RefCell::default(),
        }
    }

    /// The same service with another configuration or other backends.
    fn next(&self, view: Arc<ServiceView>, worker: usize) -> Self {
        let line = match self.line.is_of(&view.queue) {
            true => self.line.clone(),
            false => Line::new(view.queue.clone(), worker),
        };
        let mut next = Self::new(view, &self.backends, line);
        if self.view.config.balance == next.view.config.balance {
            // A request that is still trying with the old view goes on with a fresh balancer.
            let mut fresh = Balancer::new(self.view.config.balance);
            fresh.sync(&self.view);
            let mut kept = self.balancer.replace(fresh);
            kept.sync(&next.view);
            next.balancer = RefCell::new(kept);
        }
        next.observer = RefCell::new(self.observer.take());
        next
    }
}

impl LocalBackend {
    fn new(backend: Arc<Backend>) -> Self {
        Self { backend, pool: Pool::default() }
    }

    fn follow_state(&self) {
        self.pool.set_closed(!self.backend.gate.is_ready());
    }
}
