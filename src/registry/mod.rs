//! The lifecycle of instances: pending → starting → ready → draining → gone, with unhealthy and
//! ejected as conditions of ready.
//!
//! The registry owns the [`Backend`] objects that snapshots point to, keyed by (service, instance
//! id), and operators' drains, which survive a reload. It is synchronous and told everything: what
//! the configuration says, what orchestrators list, what feeds name, what health checks found. It
//! answers with [`Change`]s; starting checks, publishing and telling people are left to `control`.

mod counts;
mod entry;
mod life;
mod pool;
mod supply;
#[cfg(test)]
mod tests;

pub use counts::LeadTime;
pub use entry::{Drain, DrainedBy, Entry};
pub use pool::Pool;
pub use supply::Supplied;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::config::types::{self as config, Address};
use crate::health::judge::Verdict;
use crate::orchestrator::Instance;
use crate::tls::origin::OriginClient;
use crate::upstream::backend::Backend;
use crate::upstream::gate::State;
use crate::upstream::outlier::{NOTICES, Notice};

/// What a call changed, for those who act on it.
#[derive(Debug, Clone)]
pub enum Change {
    /// It has an address: checks may begin, the view of its service is a new one.
    Joined {
        backend: Arc<Backend>,
    },
    /// It takes requests from now on; `ramp`: for how long its share climbs.
    Ready {
        backend: Arc<Backend>,
        after: Option<Duration>,
        ramp: Option<Duration>,
    },
    Unhealthy {
        backend: Arc<Backend>,
        why: String,
    },
    /// It passes checks again.
    Healthy {
        backend: Arc<Backend>,
        ramp: Option<Duration>,
    },
    /// It has another weight, or is a backup now or no longer.
    Weighted {
        backend: Arc<Backend>,
    },
    Draining {
        backend: Arc<Backend>,
        by: DrainedBy,
    },
    Undrained {
        backend: Arc<Backend>,
        by: DrainedBy,
    },
    /// It is no longer there. `crash`: it ended by itself.
    Gone {
        service: Arc<str>,
        id: Arc<str>,
        backend: Option<Arc<Backend>>,
        crash: Option<String>,
    },
}

/// Why a drain or the end of one was refused; whole sentences for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    #[error("there is no such service")]
    NoService,
    #[error("the service has no such backend")]
    NoBackend,
    #[error("the backend is being stopped")]
    Stopping,
    #[error("the backend is not draining")]
    NotDraining,
}

/// All instances of all services.
#[derive(Debug)]
pub struct Registry {
    pub(crate) clock: Clock,
    workers: usize,
    next_uid: u64,
    /// Until the first round of checks is over nothing ramps: there is no one else to take the load.
    warm: bool,
    session_key: Option<Arc<[u8]>>,
    zone: Option<Arc<str>>,
    pools: BTreeMap<Arc<str>, Pool>,
    notices: (mpsc::Sender<Notice>, Option<mpsc::Receiver<Notice>>),
}

impl Registry {
    /// `workers`: how many cells per-worker statistics have.
    pub fn new(clock: Clock, workers: usize) -> Self {
        let (sender, receiver) = mpsc::channel(NOTICES);
        Self {
            clock,
            workers,
            next_uid: 1,
            warm: false,
            session_key: None,
            zone: None,
            pools: BTreeMap::new(),
            notices: (sender, Some(receiver)),
        }
    }

    /// What is told of ejections, of all services. `None`: somebody else follows it.
    pub fn notices(&mut self) -> Option<mpsc::Receiver<Notice>> {
        self.notices.1.take()
    }

    /// The process is past its start: from now on backends that join ramp.
    pub fn set_warm(&mut self) {
        self.warm = true;
    }

    /// What signs the cookies of sticky services that have no secret of their own, from the next
    /// [`Registry::configure`] on.
    pub fn set_session_key(&mut self, key: Option<Arc<[u8]>>) {
        self.session_key = key;
    }

    /// Where this proxy is, from the next [`Registry::configure`] on.
    pub fn set_zone(&mut self, zone: Option<Arc<str>>) {
        self.zone = zone;
    }

    /// Takes a service in, or its new settings. Fixed backends that are no longer written in it go.
    pub fn configure(&mut self, service: &Arc<config::Service>) -> Vec<Change> {
        let workers = self.workers;
        let now = self.clock.now();
        let notices = self.notices.0.clone();
        let pool = self
            .pools
            .entry(service.name.clone())
            .or_insert_with(|| Pool::new(service.clone(), workers, notices));
        pool.session_key.clone_from(&self.session_key);
        pool.zone.clone_from(&self.zone);
        pool.configure(service.clone(), now)
    }

    /// How the backends of a service are spoken to over TLS; `None`: without.
    pub fn secure(&mut self, service: &str, tls: Option<Arc<OriginClient>>) {
        if let Some(pool) = self.pools.get_mut(service) {
            pool.tls = tls;
            pool.touch();
        }
    }

    /// Lets go of a service; its backends are drained by whoever holds what is returned.
    pub fn remove(&mut self, service: &str) -> Option<Pool> {
        self.pools.remove(service)
    }

    /// Lets go of the orchestrated backends of a service that stays, drained by whoever holds them.
    pub fn release(&mut self, service: &str) -> Vec<Arc<Backend>> {
        self.pools.get_mut(service).map_or_else(Vec::new, Pool::release)
    }

    pub fn services(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pools.keys()
    }

    pub fn pool(&self, service: &str) -> Option<&Pool> {
        self.pools.get(service)
    }

    pub(crate) fn pool_mut(&mut self, service: &str) -> Option<&mut Pool> {
        self.pools.get_mut(service)
    }

    /// Requests that wait for a service to wake, and for how long one of them may.
    pub fn held(&self) -> Option<Duration> {
        let held = self.pools.values().filter(|pool| pool.hold().waiting() > 0);
        let rules = held.filter_map(|pool| pool.config().scaling.as_ref()?.hold.as_ref());
        rules.map(|rules| rules.timeout).max()
    }

    /// Those that wait still are told why there will be nobody.
    pub fn release_held(&self, why: &str) {
        for pool in self.pools.values().filter(|pool| pool.hold().waiting() > 0) {
            pool.hold().fail(why);
            pool.wake_queue();
        }
    }

    /// A backend of a service could not be started.
    pub fn start_failed(&self, service: &str, cause: &str) {
        if let Some(pool) = self.pools.get(service) {
            pool.start_failed(cause);
        }
    }

    /// Where a fixed backend is that is written as a number.
    pub fn resolved(&mut self, service: &str, id: &str, address: Address) -> Vec<Change> {
        let (clock, workers) = (self.clock.clone(), self.workers);
        let uid = self.uid();
        match self.pools.get_mut(service) {
            Some(pool) => pool.resolved(id, address, uid, workers, clock.now()),
            None => Vec::new(),
        }
    }

    /// What an orchestrator says there is now.
    pub fn observe(&mut self, service: &str, instances: &[Instance]) -> Vec<Change> {
        let Some(mut pool) = self.pools.remove(service) else { return Vec::new() };
        let clock = self.clock.clone();
        let changes = pool.observe(instances, &clock, self.workers, self.warm, || self.uid());
        self.pools.insert(pool.config().name.clone(), pool);
        changes
    }

    /// What health checks found.
    pub fn verdict(&mut self, uid: u64, verdict: Verdict, why: Option<String>) -> Vec<Change> {
        let (now, warm) = (self.clock.now(), self.warm);
        match self.pool_of(uid) {
            Some(pool) => pool.verdict(uid, verdict, why, now, warm),
            None => Vec::new(),
        }
    }

    /// One check passed and changed nothing.
    pub fn check_passed(&mut self, uid: u64) {
        let now = self.clock.now();
        if let Some(pool) = self.pool_of(uid) {
            pool.passed(uid, now);
        }
    }

    /// One check failed; kept for showing.
    pub fn check_failed(&mut self, uid: u64, why: &str) {
        if let Some(entry) = self.pool_of(uid).and_then(|pool| pool.entry_of(uid)) {
            if let Some(backend) = &entry.backend {
                backend.learned.check_failed();
            }
            entry.checked = true;
            entry.last_error = Some(why.to_owned());
        }
    }

    /// Why a backend was ejected; `None`: it is back.
    pub fn ejected_for(&mut self, uid: u64, why: Option<String>) {
        if let Some(entry) = self.pool_of(uid).and_then(|pool| pool.entry_of(uid)) {
            entry.ejected_for = why;
        }
    }

    /// No new picks from now on. Asked again by an operator, the drain becomes the operator's.
    ///
    /// # Errors
    /// If there is no such backend, or it is already being stopped.
    pub fn drain(
        &mut self,
        service: &str,
        id: &str,
        by: DrainedBy,
    ) -> Result<Vec<Change>, DrainError> {
        let now = self.clock.now();
        self.pools.get_mut(service).ok_or(DrainError::NoService)?.drain(id, by, now)
    }

    /// Takes requests again, with slow start.
    ///
    /// # Errors
    /// If there is no such backend, it is not draining, or it is already being stopped.
    pub fn undrain(
        &mut self,
        service: &str,
        id: &str,
        by: DrainedBy,
    ) -> Result<Vec<Change>, DrainError> {
        let (now, warm) = (self.clock.now(), self.warm);
        self.pools.get_mut(service).ok_or(DrainError::NoService)?.undrain(id, by, now, warm)
    }

    /// Marks a backend as being stopped, if it is (still) drained by someone who wants that, or
    /// has never been ready. From then on it cannot be un-drained.
    pub fn begin_stop(&mut self, service: &str, id: &str) -> bool {
        self.pools.get_mut(service).is_some_and(|pool| pool.begin_stop(id))
    }

    /// The stop was not carried out; it may be tried again.
    pub fn stop_failed(&mut self, service: &str, id: &str) {
        if let Some(entry) = self.pools.get_mut(service).and_then(|pool| pool.get_mut(id)) {
            entry.stopping = false;
        }
    }

    /// How many orchestrated backends went away by themselves, after they had been ready, since
    /// this was last asked.
    pub fn take_lost(&mut self, service: &str) -> u32 {
        self.pools.get_mut(service).map_or(0, |pool| std::mem::take(&mut pool.lost))
    }

    /// Orchestrated backends that did not become ready within `limit`.
    pub fn overdue(&self, service: &str, limit: Duration) -> Vec<Arc<str>> {
        let now = self.clock.now();
        let Some(pool) = self.pools.get(service) else { return Vec::new() };
        let limit = limit.as_micros() as u64;
        pool.entries()
            .filter(|e| e.is_orchestrated() && !e.stopping)
            .filter(|e| matches!(e.state(), State::Pending | State::Starting))
            .filter(|e| now.saturating_sub(e.ordered) > limit)
            .map(|e| e.id.clone())
            .collect()
    }

    fn uid(&mut self) -> u64 {
        let uid = self.next_uid;
        self.next_uid += 1;
        uid
    }

    fn pool_of(&mut self, uid: u64) -> Option<&mut Pool> {
        self.pools.values_mut().find(|pool| pool.has(uid))
    }
}
