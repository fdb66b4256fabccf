//! (configuration, registry) → snapshot. What is counted lives through reloads: the counters of a
//! route belong to (route, service), of a listener to its name, of a service to the registry.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::types as config;
use crate::limits::Limits;
use crate::registry::Registry;
use crate::route::Router;
use crate::route::split::Split;
use crate::snapshot::{ListenerView, RouteView, Snapshot, Target};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{ListenerStats, PerWorker};
use crate::tls::Loaded;

/// TLS settings by listener name.
pub type TlsConfigs = BTreeMap<Arc<str>, Loaded>;

/// Route name and service name.
type RouteKey = (Arc<str>, Option<Arc<str>>);

/// Everything of a snapshot that the membership of services does not change.
#[derive(Debug)]
pub struct Assembly {
    workers: usize,
    clock: Clock,
    listeners: Vec<Arc<ListenerView>>,
    router: Arc<Router>,
    routes: Vec<Arc<RouteView>>,
    /// In snapshot order.
    services: Vec<Arc<str>>,
    offences: Option<Arc<Limits>>,
    access_log: Option<Arc<AccessLog>>,
}

impl Assembly {
    pub fn new(workers: usize, clock: Clock) -> Self {
        Self {
            workers,
            clock,
            listeners: Vec::new(),
            router: Arc::new(Router::new(&[], &[])),
            routes: Vec::new(),
            services: Vec::new(),
            offences: None,
            access_log: None,
        }
    }

    pub fn access_log(&self) -> Option<&Arc<AccessLog>> {
        self.access_log.as_ref()
    }

    /// Takes a configuration into use; statistics of what stays are kept. Those of listeners that are
    /// no longer there are returned.
    pub fn configure(
        &mut self,
        config: &config::Config,
        tls: &TlsConfigs,
        access_log: Option<Arc<AccessLog>>,
    ) -> Vec<Arc<ListenerStats>> {
        self.access_log = access_log;
        let listener_stats = |name: &Arc<str>| -> Arc<ListenerStats> {
            let old = self.listeners.iter().find(|l| l.config.name == *name);
            old.map_or_else(Arc::default, |l| l.stats.clone())
        };
        let listeners = config
            .listeners
            .iter()
            .map(|listener| {
                Arc::new(ListenerView {
                    config: listener.clone(),
                    tls: tls.get(&listener.name).map(|loaded| loaded.config.clone()),
                    quic: tls.get(&listener.name).and_then(|loaded| loaded.quic.clone()),
                    stats: listener_stats(&listener.name),
                })
            })
            .collect();

        let old: BTreeMap<RouteKey, _> = self
            .routes
            .iter()
            .flat_map(|route| {
                let name = &route.config.name;
                let targets = route.targets.iter().chain(&route.mirror);
                targets.map(move |t| ((name.clone(), t.name.clone()), t.stats.clone()))
            })
            .collect();
        let services: Vec<_> = config.services.keys().cloned().collect();
        let target = |route: &config::Route, name: Option<&Arc<str>>| {
            let stats = old.get(&(route.name.clone(), name.cloned())).cloned();
            Target {
                name: name.cloned(),
                service: name.and_then(|name| services.binary_search(name).ok()),
                stats: stats.unwrap_or_else(|| Arc::new(PerWorker::new(self.workers))),
            }
        };
        // Routes without a name may be called the same: then they follow each other in their order.
        let mut limits: HashMap<_, Vec<_>> = HashMap::new();
        for route in self.routes.iter().rev() {
            limits.entry(route.config.name.clone()).or_default().push(route.limits.clone());
        }
        let routes: Vec<_> = config
            .routes
            .iter()
            .map(|route| {
                let old = limits.get_mut(&route.name).and_then(Vec::pop).flatten();
                let weights = route.action.services().map(|(_, weight)| weight);
                let targets = route.action.services().map(|(name, _)| target(route, Some(name)));
                let mut targets: Vec<_> = targets.collect();
                if targets.is_empty() {
                    targets.push(target(route, None));
                }
                Arc::new(RouteView {
                    config: route.clone(),
                    targets: targets.into(),
                    split: Split::new(weights),
                    mirror: route.mirror.as_ref().map(|name| target(route, Some(name))),
                    limits: Limits::new(route, old.as_deref(), &self.clock, config.redis.as_ref()),
                })
            })
            .collect();
        let names: Vec<_> = config.listeners.iter().map(|l| l.name.clone()).collect();
        self.router = Arc::new(Router::new(&config.routes, &names));
        let stays = |old: &ListenerView| config.listeners.iter().any(|l| l.name == old.config.name);
        let gone = self.listeners.iter().filter(|old| !stays(old)).map(|old| old.stats.clone());
        let gone = gone.collect();
        self.listeners = listeners;
        self.offences = soonest_ban(&routes);
        self.routes = routes;
        self.services = services;
        gone
    }

    /// The snapshot as of now; its generation is set by who publishes it.
    pub fn snapshot(&self, registry: &mut Registry) -> Snapshot {
        Snapshot {
            generation: 0,
            listeners: self.listeners.clone(),
            router: self.router.clone(),
            routes: self.routes.clone(),
            offences: self.offences.clone(),
            access_log: self.access_log.clone(),
            services: self
                .services
                .iter()
                .map(|name| {
                    registry
                        .pool_mut(name)
                        .expect("every configured service is in the registry")
                        .view()
                })
                .collect(),
        }
    }
}

/// The limits that ban after the fewest refusals.
fn soonest_ban(routes: &[Arc<RouteView>]) -> Option<Arc<Limits>> {
    let limits = routes.iter().filter_map(|route| route.limits.as_ref());
    let banning = limits.filter_map(|limits| Some((limits.ban_after()?, limits)));
    banning.min_by_key(|(after, _)| *after).map(|(_, limits)| limits.clone())
}
