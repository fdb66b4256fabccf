//! Services coming, changing and going with the configuration.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::AbortHandle;

use crate::config::types::{self as config, Config};
use crate::discovery::Feed;
use crate::orchestrator::Orchestrator;
use crate::registry::Pool;
use crate::scale::Scaler;
use crate::upstream::backend::Backend;

use super::core::Control;
use super::discover::{First, Following, first_answers};
use super::events::Kind;
use super::handover::state::{moved, of_wall};
use super::learned::Memory;
use super::managed::{Backoff, Managed};
use super::reload::{Reloader, build};
use super::scaling::Scaling;
use super::tls::Origins;
use super::{lock, orchestrate};

/// Tasks that belong to services.
#[derive(Default)]
pub struct Tasks {
    pub(super) orchestrated: HashMap<Arc<str>, Vec<AbortHandle>>,
    pub(super) feeds: HashMap<(Arc<str>, Feed), Following>,
}

impl Control {
    /// Brings the registry in step with the configuration; what is no longer in it is returned.
    /// New backends whose addresses are known take part at once, so that a service whose
    /// backends are all replaced is at no moment without any.
    pub(super) fn take_services(
        self: &Arc<Self>,
        config: &Config,
        origins: &Origins,
        firsts: &[First],
    ) -> Vec<Pool> {
        let mut changes = Vec::new();
        let mut rechecked: Vec<Arc<Backend>> = Vec::new();
        let mut retired = Vec::new();
        {
            let mut registry = lock(&self.registry);
            let gone: Vec<_> = registry
                .services()
                .filter(|name| !config.services.contains_key(*name))
                .cloned()
                .collect();
            for name in gone {
                retired.extend(registry.remove(&name));
            }
            for (name, service) in &config.services {
                let old = registry.pool(name).map(|p| p.config().clone());
                changes.extend(registry.configure(service));
                registry.secure(name, origins.get(name).cloned());
                let same = |old: &config::Service| {
                    let (a, b) = (&old.transport, &service.transport);
                    old.health == service.health
                        && a.tls == b.tls
                        && a.protocol == b.protocol
                        && a.proxy_protocol == b.proxy_protocol
                };
                if old.is_some_and(|old| !same(&old)) {
                    let pool = registry.pool(name).into_iter();
                    rechecked
                        .extend(pool.flat_map(Pool::entries).filter_map(|e| e.backend.clone()));
                }
            }
            let numeric = config.services.iter().flat_map(|(name, service)| {
                let backends = service.backends.iter();
                backends.filter_map(|b| Some((name.clone(), b.id.clone(), b.address()?)))
            });
            for (service, id, address) in numeric {
                changes.extend(registry.resolved(&service, &id, address));
            }
            changes.extend(first_answers(&mut registry, firsts));
            changes.extend(self.added.restore(&mut registry, config));
        }
        // The snapshot is published by the caller, once everything is in its place.
        for change in &changes {
            self.after(change);
        }
        for backend in rechecked {
            self.check(&backend);
        }
        for service in config.services.keys() {
            self.look_for_darkness(service);
        }
        retired
    }

    /// Starts what is new, and gives what stays its new settings.
    pub(super) fn take_orchestrators(
        self: &Arc<Self>,
        reloader: &mut Reloader,
        config: &Config,
        mut built: BTreeMap<Arc<str>, Arc<dyn Orchestrator>>,
    ) {
        for (name, service) in &config.services {
            let Some(settings) = &service.orchestrator else { continue };
            if let Some(managed) = self.managed(name) {
                managed.configure(settings.clone());
                let mut scaling = lock(&managed.scaling);
                let seq = scaling.journal.next_seq();
                let scaling = &mut *scaling;
                match (&mut scaling.scaler, &service.scaling) {
                    (Some(scaler), Some(params)) => {
                        scaler.reconfigure(params.clone());
                        scaling.learned.configure(service, scaler);
                    }
                    (scaler @ None, Some(params)) => {
                        *scaler = Some(Scaler::new(name.clone(), params.clone(), seq));
                    }
                    (scaler, None) => *scaler = None,
                }
                continue;
            }
            let Some(orchestrator) = built.remove(name) else { continue };
            let (journal, scribe) = reloader.scribes.open(name);
            let mut scaler = service.scaling.as_ref().map(|params| {
                let mut scaler = Scaler::new(name.clone(), params.clone(), journal.next_seq());
                scaler.recall(journal.oldest());
                // One that is over ends with the first tick.
                let operator = journal.operator.map(|o| moved(o, |at| of_wall(&self.clock, at)));
                scaler.set_override(operator);
                scaler
            });
            let wall = self.clock.wall(self.clock.now()).into();
            let kept = journal.learned.clone();
            let learned = Memory::open(service, kept, wall, scaler.as_mut());
            let (windows, diary) = reloader.scribes.season(name);
            if let Some(scaler) = &mut scaler {
                scaler.recall_season(windows);
            }
            let mut scaling = Scaling::new(scaler, journal, scribe);
            scaling.diary = Some(diary);
            scaling.learned = learned;
            scaling.books = reloader.scribes.books(name);
            let managed =
                Arc::new(Managed::new(name.clone(), orchestrator, settings.clone(), scaling));
            lock(&self.managed).insert(name.clone(), managed.clone());
            let least = service.scaling.as_ref().map_or(1, |s| s.min);
            let mut tasks = self.carry_out_and_measure(&managed);
            tasks.push(tokio::spawn(begin(self.clone(), managed, least)).abort_handle());
            reloader.tasks.orchestrated.insert(name.clone(), tasks);
        }
    }
}

impl Control {
    fn carry_out_and_measure(self: &Arc<Self>, managed: &Arc<Managed>) -> Vec<AbortHandle> {
        vec![
            tokio::spawn(orchestrate::carry_out(self.clone(), managed.clone())).abort_handle(),
            tokio::spawn(orchestrate::measure(self.clone(), managed.clone())).abort_handle(),
            tokio::spawn(orchestrate::wake(self.clone(), managed.clone())).abort_handle(),
        ]
    }

    /// Goes on with a service whose orchestrator was replaced by another one of the same kind.
    pub(super) fn follow_again(self: &Arc<Self>, managed: &Arc<Managed>) -> Vec<AbortHandle> {
        let mut tasks = self.carry_out_and_measure(managed);
        let watch = orchestrate::watch(self.clone(), managed.clone());
        tasks.push(tokio::spawn(watch).abort_handle());
        // What was ordered meanwhile is still to be done.
        managed.orders.notify_one();
        tasks
    }

    /// A new orchestrator for a service whose old one let go of everything. Goes on trying: without
    /// one nobody looks after the backends.
    pub(super) async fn rebuild(&self, reloader: &Reloader, managed: &Managed) {
        let mut backoff = Backoff::default();
        let state_dir = lock(&self.applied).started().runtime.state_dir.clone();
        loop {
            match build(&reloader.kinds, &managed.service, managed.built(), &state_dir) {
                Ok(built) => return managed.replace_orchestrator(built),
                Err(error) => {
                    let kind = Kind::OrchestratorFailed { operation: "build", error };
                    self.events.send(Some(&managed.service), kind);
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }
}

/// The start of an orchestrated service: what is there is adopted, what is missing is ordered at
/// once, and then it is watched.
async fn begin(control: Arc<Control>, managed: Arc<Managed>, least: u32) {
    let mut backoff = Backoff::default();
    while !control.list(&managed).await {
        tokio::time::sleep(backoff.next_wait()).await;
    }
    let there = lock(&control.registry).pool(&managed.service).map_or(0, |pool| {
        pool.entries().filter(|e| e.is_orchestrated() && !e.stopping && e.drain.is_none()).count()
    });
    // Surplus is not cut here: the scaler drains it first.
    if !control.stopping.load(Relaxed) {
        managed.order_size(least.max(there as u32));
    }
    orchestrate::watch(control, managed).await;
}
