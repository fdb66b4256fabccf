//! What the new process is told of services: who is ready, what operators and the scaler ordered.
//!
//! What is on the disk is not part of it (journals, keys of sticky cookies, what runs), nor what is
//! learned anew within seconds: latencies, windows, limits of an overload. But what requests take in
//! calm is, which cannot be learned in the middle of one. Who is kept away is `away`'s. Moments are
//! in wall time, as each process has a clock of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Micros};
use crate::discovery::Store;
use crate::health::judge::Verdict;
use crate::overload::Calm;
use crate::registry::{DrainedBy, Entry, Pool};
use crate::scale::{Kept, Override};
use crate::upstream::gate::State as Life;

use super::super::core::Control;
use super::super::lock;
use super::super::managed::Managed;
use super::away::{Banned, Ejection};

/// How long instances that ran may take to be found again.
const FIND: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Everything.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    services: BTreeMap<String, Service>,
    /// Backends added over the admin API, as in `backends.toml`.
    added: String,
    bans: Vec<Banned>,
    /// Hand-overs so far.
    handovers: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Service {
    backends: Vec<Known>,
    /// How many the orchestrator was told to have.
    size: Option<u32>,
    operator: Option<Override>,
    /// What the scaler has learned of the backends.
    learned: Option<Kept>,
    /// Changes of size so far: up, reason, how often.
    changes: Vec<(bool, String, u64)>,
}

/// What is known of one backend.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    id: String,
    /// As text: of the two processes one may know kinds of addresses that the other does not.
    address: String,
    /// By checks; `None`: not known yet.
    healthy: Option<bool>,
    drained: Option<Drained>,
    ejected: Option<Ejection>,
    /// Seconds of a request in calm, and how many answers say so.
    calm: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Drained {
    Operator,
    Scaling,
}

impl State {
    /// As of now. Nothing may be decided or changed meanwhile.
    pub(super) fn of(control: &Control) -> Self {
        let names: Vec<_> = lock(&control.registry).services().cloned().collect();
        let services = names.iter().map(|name| (name.to_string(), Service::of(control, name)));
        Self {
            services: services.collect(),
            bans: control.banned(),
            added: Store::to_text(&control.added.live()).unwrap_or_default(),
            handovers: control.standing.ok.load(Relaxed) + 1,
        }
    }

    /// What has to be known before the configuration is taken into use.
    pub(super) fn inherit_first(&self, control: &Control) {
        control.standing.ok.store(self.handovers, Relaxed);
        match Store::of_text(&self.added) {
            Ok(added) => control.inherit_added(added),
            Err(error) => tracing::warn!("backends added over the API are not known: {error}"),
        }
    }

    /// The rest, once services are there and their orchestrators are built.
    pub(super) async fn inherit(&self, control: &Arc<Control>) {
        control.inherit_bans(&self.bans);
        for (name, service) in &self.services {
            if let Some(managed) = control.managed(name) {
                service.find(control, &managed).await;
                service.order(control, &managed);
            }
            service.vouch(control, name);
            service.drain(control, name);
        }
    }

    /// Services that had somebody ready before and have nobody now.
    pub(super) fn dark(&self, control: &Control) -> Vec<String> {
        let registry = lock(&control.registry);
        let lit = |service: &Service| service.backends.iter().any(|b| b.healthy == Some(true));
        let dark = self.services.iter().filter(|(name, service)| {
            let pool = registry.pool(name);
            lit(service) && pool.is_some_and(|pool| !pool.entries().any(Entry::is_available))
        });
        dark.map(|(name, _)| name.clone()).collect()
    }
}

impl Service {
    fn of(control: &Control, name: &str) -> Self {
        let managed = control.managed(name);
        let removals = managed.as_ref().map(|m| m.removals()).unwrap_or_default();
        let known = |pool: &Pool| {
            let known = pool.entries().filter_map(|e| Known::of(control, name, e, &removals));
            known.collect()
        };
        // One lock at a time: a tick takes them in another order.
        let backends = lock(&control.registry).pool(name).map(known).unwrap_or_default();
        let mut service = Self { backends, ..Self::default() };
        let Some(managed) = managed else { return service };
        service.size = managed.sized.load(SeqCst).then(|| managed.size());
        let scaling = lock(&managed.scaling);
        let operator = scaling.scaler.as_ref().and_then(|scaler| scaler.status().operator);
        service.operator = operator.map(|o| moved(o, |at| to_wall(&control.clock, at)));
        let wall = control.clock.wall(control.clock.now()).into();
        let scaler = scaling.scaler.as_ref();
        service.learned = scaler.and_then(|scaler| scaling.learned.pass_on(wall, scaler));
        let changes = scaling.changes.iter();
        service.changes = changes.map(|((up, why), n)| (*up, why.clone(), *n)).collect();
        service
    }

    /// Waits until what ran is found again, and the size that is made of it was ordered.
    async fn find(&self, control: &Arc<Control>, managed: &Managed) {
        let found = async {
            loop {
                control.list(managed).await;
                let there = {
                    let registry = lock(&control.registry);
                    let pool = registry.pool(&managed.service);
                    // Who is not there at all ended meanwhile.
                    let entries = self.backends.iter().filter_map(|b| pool?.get(&b.id));
                    entries.into_iter().all(|entry| entry.backend.is_some())
                };
                if there && managed.sized.load(SeqCst) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        // Those that are not found in time are checked like any other that starts.
        let _ = tokio::time::timeout(FIND, found).await;
    }

    /// What the scaler and operators had decided.
    fn order(&self, control: &Control, managed: &Managed) {
        if let Some(size) = self.size {
            managed.order_size(size);
        }
        let mut scaling = lock(&managed.scaling);
        let scaling = &mut *scaling;
        let operator = self.operator.map(|o| moved(o, |at| of_wall(&control.clock, at)));
        if let Some(scaler) = &mut scaling.scaler {
            scaler.set_override(operator);
            if let Some(kept) = &self.learned {
                scaling.learned.take_over(kept, scaler);
            }
        }
        scaling.changes =
            self.changes.iter().map(|(up, why, n)| ((*up, why.clone()), *n)).collect();
    }

    /// Believes what the checks of the process before found; ours go on from there.
    fn vouch(&self, control: &Arc<Control>, name: &str) {
        let mut changes = Vec::new();
        {
            let mut registry = lock(&control.registry);
            for known in &self.backends {
                let entry = registry.pool(name).and_then(|pool| pool.get(&known.id));
                let backend = entry.and_then(|entry| entry.backend.as_ref());
                let same = backend.filter(|backend| backend.address.to_string() == known.address);
                if let (Some(backend), Some((seconds, known))) = (same, known.calm) {
                    let calm = Calm { seconds, known };
                    lock(&control.overload).believe(name, backend.uid, calm);
                }
                let (Some(uid), Some(healthy)) = (same.map(|b| b.uid), known.healthy) else {
                    continue;
                };
                let (verdict, why) = match healthy {
                    true => (Verdict::Healthy, None),
                    false => (Verdict::Unhealthy, Some("unhealthy before the hand-over".into())),
                };
                changes.extend(registry.verdict(uid, verdict, why));
            }
        }
        control.act(changes);
        let ejected = self.backends.iter();
        let ejected = ejected.filter_map(|known| Some((&*known.id, known.ejected.as_ref()?)));
        control.inherit_ejections(name, ejected);
    }

    fn drain(&self, control: &Arc<Control>, name: &str) {
        for known in &self.backends {
            match known.drained {
                Some(Drained::Operator) => {
                    let drained =
                        lock(&control.registry).drain(name, &known.id, DrainedBy::Operator);
                    control.act(drained.unwrap_or_default());
                }
                Some(Drained::Scaling) => {
                    let (service, id) = (name.into(), known.id.as_str().into());
                    let by = DrainedBy::Scaling;
                    tokio::spawn(control.clone().drain_and_stop(service, id, by));
                }
                None => {}
            }
        }
    }
}

impl Known {
    fn of(control: &Control, service: &str, entry: &Entry, removals: &[Arc<str>]) -> Option<Self> {
        let backend = entry.backend.as_ref()?;
        let was_ready = entry.drain.map_or(entry.state() == Life::Ready, |drain| drain.was_ready);
        let drained = match entry.drain.map(|drain| drain.by) {
            Some(DrainedBy::Operator) => Some(Drained::Operator),
            Some(DrainedBy::Scaling | DrainedBy::Healing) => Some(Drained::Scaling),
            // Its stop was ordered, and perhaps not heard of.
            _ if removals.contains(&entry.id) => Some(Drained::Scaling),
            _ => None,
        };
        let healthy = match was_ready {
            true => Some(backend.gate.is_healthy()),
            false => None,
        };
        let (id, address) = (entry.id.to_string(), backend.address.to_string());
        let ejected = Ejection::of(control, entry);
        let calm = lock(&control.overload).calm_of(service, backend.uid);
        let calm = calm.map(|calm| (calm.seconds, calm.known));
        Some(Self { id, address, healthy, drained, ejected, calm })
    }
}

/// The same order with its end told by another clock.
pub(in crate::control) fn moved(operator: Override, clock: impl Fn(Micros) -> Micros) -> Override {
    match operator {
        Override::Pin { replicas, until } => Override::Pin { replicas, until: until.map(clock) },
        Override::Pause { until } => Override::Pause { until: until.map(clock) },
    }
}

/// A moment of our clock in µs since 1970.
pub(in crate::control) fn to_wall(clock: &Clock, at: Micros) -> Micros {
    clock.wall(at).duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as Micros
}

/// The moment of our clock; its beginning if that was before.
pub(in crate::control) fn of_wall(clock: &Clock, at: Micros) -> Micros {
    let at: SystemTime = UNIX_EPOCH + Duration::from_micros(at);
    at.duration_since(clock.wall(0)).unwrap_or_default().as_micros() as Micros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_the_same_for_another_clock() {
        let epoch = UNIX_EPOCH + Duration::from_secs(1000);
        let old = Clock::manual(epoch);
        let new = Clock::manual(epoch + Duration::from_secs(60));
        let pin = Override::Pin { replicas: 3, until: Some(90_000_000) };
        let there = moved(pin, |at| to_wall(&old, at));
        let here = moved(there, |at| of_wall(&new, at));
        assert_eq!(here, Override::Pin { replicas: 3, until: Some(30_000_000) });
        assert_eq!(of_wall(&new, to_wall(&old, 1)), 0, "what is over stays over");
        let forever = Override::Pause { until: None };
        assert_eq!(moved(forever, |at| of_wall(&new, at)), forever);
    }

    #[test]
    fn what_another_version_does_not_tell_is_left_out() {
        let state: State =
            serde_json::from_str("{\"services\":{\"a\":{\"new\":1}}}").expect("read");
        assert!(state.services["a"].backends.is_empty());
        assert_eq!(state.handovers, 0);
    }
}
