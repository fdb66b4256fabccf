//! The shared state of the control plane, and the one place where changes of the registry take
//! effect: checks start and end, snapshots are published, people are told.
//!
//! Locks here are held for moments and never over an await. Their order: assembly, registry,
//! then any other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::clock::Clock;
use crate::config::types as config;
use crate::health;
use crate::health::judge::Verdict;
use crate::notify::Notifiers;
use crate::registry::{Change, DrainedBy, Registry};
use crate::signals::Signals;
use crate::telemetry::window::Windows;
use crate::upstream::backend::{Backend, Source};
use crate::upstream::gate::State;
use crate::worker::DataPlane;

use super::applied::Applied;
use super::build::Assembly;
use super::events::{DrainStep, Events, Kind};
use super::handover::Standing;
use super::lock;
use super::managed::Managed;
use super::systemd::Manager;

/// What the parts of the control plane share.
pub struct Control {
    pub clock: Clock,
    pub plane: DataPlane,
    pub events: Events,
    pub registry: Mutex<Registry>,
    pub assembly: Mutex<Assembly>,
    pub windows: Mutex<Windows>,
    pub managed: Mutex<BTreeMap<Arc<str>, Arc<Managed>>>,
    /// The configuration in use, and how the last reload went.
    pub applied: Mutex<Applied>,
    /// One reload at a time.
    pub reloading: tokio::sync::Mutex<super::reload::Reloader>,
    pub stopping: AtomicBool,
    /// How it stands to the process before and the one after.
    pub standing: Standing,
    /// The service manager, if there is one.
    pub manager: Manager,
    /// When the control plane ticked last.
    pub ticked: AtomicU64,
    /// Services whose orchestrator is on its way out; until it is gone no other takes its place.
    pub ending: Mutex<BTreeMap<Arc<str>, Option<Arc<Managed>>>>,
    /// Lines of the access log that were lost.
    pub log_dropped: Arc<AtomicU64>,
    /// Every service had its first round of checks.
    pub settled: AtomicBool,
    /// What brings backends besides numbers in the file and orchestrators.
    pub feeds: super::feeds::Feeds,
    pub added: super::added::Added,
    pub errors: Mutex<super::errors::Errors>,
    pub floods: Mutex<super::floods::Floods>,
    pub certificates: Mutex<super::certificates::Certificates>,
    pub notifiers: Mutex<Notifiers>,
    pub overload: Mutex<super::overload::Overload>,
    pub memory: Mutex<super::memory::Memory>,
    pub broken: Mutex<super::heal::Broken>,
    pub scribes: super::journal::Scribes,
    pub recordings: Mutex<super::recording::Recordings>,
    /// Numbers from elsewhere.
    pub signals: Signals,
    checks: Mutex<HashMap<u64, AbortHandle>>,
    /// Permits for checks under way, by service.
    parallel: Mutex<HashMap<Arc<str>, Permits>>,
    /// Services that were told to have no healthy backend.
    dark: Mutex<HashSet<Arc<str>>>,
}

/// How many checks of a service may be under way, and the permits for them.
type Permits = (usize, Arc<Semaphore>);

impl Control {
    pub fn new(
        clock: Clock,
        plane: DataPlane,
        applied: Applied,
        reloader: super::reload::Reloader,
    ) -> Arc<Self> {
        let workers = plane.workers();
        let scribes = reloader.scribes.clone();
        Arc::new(Self {
            registry: Mutex::new(Registry::new(clock.clone(), workers)),
            assembly: Mutex::new(Assembly::new(workers, clock.clone())),
            clock,
            plane,
            events: Events::default(),
            windows: Mutex::default(),
            managed: Mutex::default(),
            applied: Mutex::new(applied),
            reloading: tokio::sync::Mutex::new(reloader),
            stopping: AtomicBool::new(false),
            standing: Standing::default(),
            manager: Manager::of_process(),
            ticked: AtomicU64::new(0),
            ending: Mutex::default(),
            log_dropped: Arc::default(),
            settled: AtomicBool::new(false),
            feeds: super::feeds::Feeds::default(),
            added: super::added::Added::default(),
            errors: Mutex::default(),
            floods: Mutex::default(),
            certificates: Mutex::default(),
            notifiers: Mutex::default(),
            overload: Mutex::default(),
            memory: Mutex::default(),
            broken: Mutex::default(),
            scribes,
            recordings: Mutex::default(),
            signals: Signals::default(),
            checks: Mutex::default(),
            parallel: Mutex::default(),
            dark: Mutex::default(),
        })
    }

    /// Opens log files again, after they were moved away (SIGUSR1).
    pub fn reopen_logs(&self) {
        if let Some(log) = lock(&self.assembly).access_log() {
            log.reopen();
        }
    }

    pub fn managed(&self, service: &str) -> Option<Arc<Managed>> {
        lock(&self.managed).get(service).cloned()
    }

    /// Gives the workers what is true now; the generation they will acknowledge.
    pub fn publish(&self) -> u64 {
        let assembly = lock(&self.assembly);
        let snapshot = assembly.snapshot(&mut lock(&self.registry));
        self.plane.publish(snapshot)
    }

    /// Lets changes take effect; a generation if a snapshot was published.
    pub fn act(self: &Arc<Self>, changes: Vec<Change>) -> Option<u64> {
        if changes.is_empty() {
            return None;
        }
        let membership = changes.iter().any(|change| {
            matches!(
                change,
                Change::Joined { .. }
                    | Change::Weighted { .. }
                    | Change::Gone { .. }
                    | Change::Draining { .. }
                    | Change::Undrained { .. }
            )
        });
        // Workers first: what takes time below must not delay that a dead backend is left alone.
        let generation = membership.then(|| self.publish());
        let mut services = HashSet::new();
        for change in &changes {
            services.insert(service_of(change).clone());
            self.after(change);
        }
        for service in services {
            self.look_for_darkness(&service);
        }
        generation
    }

    /// What follows from a change, besides a snapshot.
    pub fn after(self: &Arc<Self>, change: &Change) {
        self.follow(change);
        self.tell(change);
    }

    /// Starts or ends the checks that a change calls for.
    fn follow(self: &Arc<Self>, change: &Change) {
        match change {
            Change::Joined { backend } => self.check(backend),
            Change::Gone { backend: Some(backend), .. } => {
                backend.leave_pool();
                if let Some(check) = lock(&self.checks).remove(&backend.uid) {
                    check.abort();
                }
            }
            _ => {}
        }
    }

    /// Checks a backend from now on, as its service's configuration says.
    pub fn check(self: &Arc<Self>, backend: &Arc<Backend>) {
        let found = lock(&self.registry)
            .pool(&backend.service)
            .map(|pool| (pool.config().clone(), pool.tls().cloned(), pool.hold().clone()));
        let Some((service, tls, hold)) = found else { return };
        let transport = &service.transport;
        let (protocol, proxy_protocol) = (transport.protocol, transport.proxy_protocol);
        let health = service.health.clone();
        let check = match backend.source {
            Source::Fixed => health.kind.fixed,
            _ => health.kind.orchestrated,
        };
        if check == config::Check::None {
            return;
        }
        let starting = !matches!(backend.gate.state(), State::Ready | State::Draining);
        let parallel = self.permits(&service.name, health.max_parallel);
        let target = health::Checked {
            uid: backend.uid,
            address: backend.address.clone(),
            authority: backend.authority.clone(),
            check,
            health,
            starting,
            parallel,
            tls,
            protocol,
            proxy_protocol,
            hold,
        };
        let sink = Arc::new(Verdicts(Arc::downgrade(self)));
        let task = tokio::spawn(health::run(target, self.clock.clone(), sink));
        if let Some(old) = lock(&self.checks).insert(backend.uid, task.abort_handle()) {
            old.abort();
        }
    }

    fn permits(&self, service: &Arc<str>, max: usize) -> Arc<Semaphore> {
        let mut parallel = lock(&self.parallel);
        match parallel.get(service) {
            Some((size, permits)) if *size == max => permits.clone(),
            _ => {
                let permits = Arc::new(Semaphore::new(max.max(1)));
                parallel.insert(service.clone(), (max, permits.clone()));
                permits
            }
        }
    }

    fn tell(&self, change: &Change) {
        let state = |backend: &Arc<Backend>, state, after, ramp, reason| Kind::BackendState {
            backend: backend.id.to_string(),
            address: Some(backend.address.clone()),
            state,
            after_ms: after,
            ramp_ms: ramp,
            reason,
        };
        let ms = |d: &Option<Duration>| d.map(|d| d.as_millis() as u64);
        let drain = |backend: &Arc<Backend>, step, by: &DrainedBy| Kind::Drain {
            backend: backend.id.to_string(),
            address: Some(backend.address.clone()),
            step,
            by: by.as_str(),
            in_flight: backend.gate.in_flight(),
            tunnels: 0,
        };
        let kind = match change {
            Change::Joined { .. } | Change::Weighted { .. } => return,
            Change::Ready { backend, after, ramp } => {
                state(backend, "ready", ms(after), ms(ramp), None)
            }
            Change::Unhealthy { backend, why } => {
                state(backend, "unhealthy", None, None, Some(why.clone()))
            }
            Change::Healthy { backend, ramp } => state(backend, "healthy", None, ms(ramp), None),
            Change::Draining { backend, by } => drain(backend, DrainStep::Begun, by),
            Change::Undrained { backend, by } => drain(backend, DrainStep::Undone, by),
            Change::Gone { id, backend, crash, .. } => {
                let (id, address) = (id.to_string(), backend.as_ref().map(|b| b.address.clone()));
                match crash {
                    Some(cause) => Kind::Crash { backend: id, address, cause: cause.clone() },
                    None => Kind::BackendState {
                        backend: id,
                        address,
                        state: "gone",
                        after_ms: None,
                        ramp_ms: None,
                        reason: None,
                    },
                }
            }
        };
        let service = Some(service_of(change));
        let starts = matches!(change, Change::Ready { .. }) && !self.settled.load(Relaxed);
        let ends = self.stopping.load(Relaxed) && !kind.is_warning();
        if starts || ends {
            self.events.send_quietly(service, kind);
        } else {
            self.events.send(service, kind);
        }
    }

    /// Says once when a service loses its last available backend.
    pub(super) fn look_for_darkness(&self, service: &Arc<str>) {
        let reason = {
            let registry = lock(&self.registry);
            let Some(pool) = registry.pool(service) else { return };
            // One that sleeps has nobody who could be ill.
            let sleeps = || pool.may_sleep() && !pool.entries().any(|e| e.state() == State::Ready);
            if pool.entries().any(|e| e.is_available()) || sleeps() {
                lock(&self.dark).remove(service);
                return;
            }
            pool.entries()
                .find_map(|e| e.last_error.clone())
                .or_else(|| self.feeds.error(service))
                .unwrap_or_else(|| format!("0 of {}", pool.entries().count()))
        };
        // At the end they all go, which is no news.
        let settled = self.settled.load(Relaxed) && !self.stopping.load(Relaxed);
        if settled && lock(&self.dark).insert(service.clone()) {
            self.events.send(Some(service), Kind::NoHealthyBackends { reason });
        }
    }
}

fn service_of(change: &Change) -> &Arc<str> {
    match change {
        Change::Joined { backend }
        | Change::Weighted { backend }
        | Change::Ready { backend, .. }
        | Change::Unhealthy { backend, .. }
        | Change::Healthy { backend, .. }
        | Change::Draining { backend, .. }
        | Change::Undrained { backend, .. } => &backend.service,
        Change::Gone { service, .. } => service,
    }
}

/// Takes verdicts of checks to the registry.
struct Verdicts(std::sync::Weak<Control>);

impl health::Sink for Verdicts {
    fn verdict(&self, uid: u64, verdict: Verdict, why: Option<String>) {
        if let Some(control) = self.0.upgrade() {
            let changes = lock(&control.registry).verdict(uid, verdict, why);
            control.act(changes);
        }
    }

    fn passed(&self, uid: u64) {
        if let Some(control) = self.0.upgrade() {
            lock(&control.registry).check_passed(uid);
        }
    }

    fn failed(&self, uid: u64, why: &str) {
        if let Some(control) = self.0.upgrade() {
            lock(&control.registry).check_failed(uid, why);
        }
    }
}
