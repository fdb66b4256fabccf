//! Services coming, changing and going with the configuration.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::config::types::{Config, FixedBackend};
use crate::orchestrator::Orchestrator;
use crate::registry::Pool;
use crate::scale::Scaler;
use crate::upstream::backend::Backend;

use super::core::Control;
use super::managed::{Backoff, Managed};
use super::reload::Reloader;
use super::scaling::Scaling;
use super::{lock, orchestrate};

/// Longest wait for one answer of the resolver.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// Service, id of a fixed backend, and where that is.
pub type Resolved = (Arc<str>, Arc<str>, SocketAddr);

/// Tasks that belong to services.
#[derive(Default)]
pub struct Tasks {
    pub(super) orchestrated: HashMap<Arc<str>, Vec<AbortHandle>>,
    resolving: HashMap<(Arc<str>, Arc<str>), AbortHandle>,
}

impl Control {
    /// Brings the registry in step with the configuration; what is no longer in it is returned.
    /// New backends whose addresses are known take part at once, so that a service whose
    /// backends are all replaced is at no moment without any.
    pub(super) fn take_services(
        self: &Arc<Self>,
        config: &Config,
        addresses: Vec<Resolved>,
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
                let old = registry.pool(name).map(|p| p.config().health.clone());
                changes.extend(registry.configure(service));
                if old.is_some_and(|old| old != service.health) {
                    let pool = registry.pool(name).into_iter();
                    rechecked
                        .extend(pool.flat_map(Pool::entries).filter_map(|e| e.backend.clone()));
                }
            }
            let numeric = config.services.iter().flat_map(|(name, service)| {
                let backends = service.backends.iter();
                backends.filter_map(|b| Some((name.clone(), b.id.clone(), number(b)?)))
            });
            for (service, id, address) in numeric.chain(addresses) {
                changes.extend(registry.resolved(&service, &id, address));
            }
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
                match (&mut scaling.scaler, &service.scaling) {
                    (Some(scaler), Some(params)) => scaler.reconfigure(params.clone()),
                    (scaler @ None, Some(params)) => {
                        *scaler = Some(Scaler::new(name.clone(), params.clone(), seq));
                    }
                    (scaler, None) => *scaler = None,
                }
                continue;
            }
            let Some(orchestrator) = built.remove(name) else { continue };
            let (journal, scribe) = reloader.scribes.open(name);
            let scaler = service
                .scaling
                .as_ref()
                .map(|params| Scaler::new(name.clone(), params.clone(), journal.next_seq()));
            let scaling = Scaling::new(scaler, journal, scribe);
            let managed =
                Arc::new(Managed::new(name.clone(), orchestrator, settings.clone(), scaling));
            lock(&self.managed).insert(name.clone(), managed.clone());
            let least = service.scaling.as_ref().map_or(1, |s| s.min);
            let tasks = vec![
                tokio::spawn(begin(self.clone(), managed.clone(), least)).abort_handle(),
                tokio::spawn(orchestrate::carry_out(self.clone(), managed.clone())).abort_handle(),
                tokio::spawn(orchestrate::measure(self.clone(), managed)).abort_handle(),
            ];
            reloader.tasks.orchestrated.insert(name.clone(), tasks);
        }
    }

    /// Looks up the names of fixed backends that are not in use yet. One that cannot be looked
    /// up now is left to [`Self::resolve_fixed`].
    pub(super) async fn look_up(&self, config: &Config) -> Vec<Resolved> {
        let unknown: Vec<_> = {
            let registry = lock(&self.registry);
            let known = |service: &str, id: &str| {
                registry.pool(service).is_some_and(|pool| pool.get(id).is_some())
            };
            let all = config.services.iter().flat_map(|(name, service)| {
                service.backends.iter().map(move |fixed| (name.clone(), fixed.clone()))
            });
            all.filter(|(name, b)| number(b).is_none() && !known(name, &b.id)).collect()
        };
        let lookups = unknown.into_iter().map(|(name, fixed)| async move {
            let lookup = tokio::net::lookup_host((&*fixed.host, fixed.port));
            let found = tokio::time::timeout(RESOLVE_LIMIT, lookup).await.ok()?.ok()?.next()?;
            Some((name, fixed.id, found))
        });
        futures_util::future::join_all(lookups).await.into_iter().flatten().collect()
    }

    /// Keeps looking for the addresses of fixed backends that are written as names.
    pub(super) fn resolve_fixed(self: &Arc<Self>, tasks: &mut Tasks, config: &Config) {
        for (_, old) in tasks.resolving.drain() {
            old.abort();
        }
        for (name, service) in &config.services {
            for fixed in service.backends.iter().filter(|fixed| number(fixed).is_none()) {
                let task = tokio::spawn(self.clone().resolve(name.clone(), fixed.clone()));
                let key = (name.clone(), fixed.id.clone());
                tasks.resolving.insert(key, task.abort_handle());
            }
        }
    }

    /// Asks the resolver until it answers; meanwhile the service does without the backend.
    async fn resolve(self: Arc<Self>, service: Arc<str>, fixed: FixedBackend) {
        let mut backoff = Backoff::default();
        let mut told = false;
        loop {
            let lookup = tokio::net::lookup_host((&*fixed.host, fixed.port));
            let error = match tokio::time::timeout(RESOLVE_LIMIT, lookup).await {
                Ok(Ok(addresses)) => {
                    let addresses: Vec<_> = addresses.collect();
                    let now = lock(&self.registry)
                        .pool(&service)
                        .and_then(|p| p.get(&fixed.id)?.address());
                    // The one in use is kept as long as it is among them.
                    let kept = addresses.iter().find(|a| Some(**a) == now).or(addresses.first());
                    if let Some(address) = kept {
                        let changes = lock(&self.registry).resolved(&service, &fixed.id, *address);
                        self.act(changes);
                        return;
                    }
                    "no address".to_owned()
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", RESOLVE_LIMIT.as_secs()),
            };
            lock(&self.registry).unresolved(&service, &fixed.id, &error);
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(service = %service, "backend {} cannot be resolved: {error}; trying on", fixed.host);
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
}

/// The address of a backend that is written as a number.
fn number(fixed: &FixedBackend) -> Option<SocketAddr> {
    let host = fixed.host.trim_start_matches('[').trim_end_matches(']');
    Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, fixed.port))
}

/// The start of an orchestrated service: what is there is adopted, what is missing is ordered at
/// once, and then it is watched.
async fn begin(control: Arc<Control>, managed: Arc<Managed>, least: u32) {
    let mut backoff = Backoff::default();
    while !control.list(&managed).await {
        tokio::time::sleep(backoff.next_wait()).await;
    }
    let there = lock(&control.registry).pool(&managed.service).map_or(0, |pool| {
        pool.entries().filter(|e| e.orchestrated && !e.stopping && e.drain.is_none()).count()
    });
    // Surplus is not cut here: the scaler drains it first.
    if !control.stopping.load(Relaxed) {
        managed.order_size(least.max(there as u32));
    }
    orchestrate::watch(control, managed).await;
}
