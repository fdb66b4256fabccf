//! Tells of what clients do too much, as it begins, goes on and ends: connections and streams that were ended for it,
//! requests that limits of routes refused, and requests that a service shed. The counting is the data plane's; here
//! it becomes events, few of each ([`super::spells`]): the log must not be the next thing that a flood fills.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::snapshot::{RouteView, Snapshot};
use crate::telemetry::counter::Label;
use crate::telemetry::{Flood, ServiceStats, ShedReason};

use super::core::Control;
use super::events::Kind;
use super::lock;
use super::spells::{Spells, Told};

/// What a route refuses above `[route.concurrency_limit]`, where events name a limit.
const CONCURRENCY: &str = "concurrency_limit";

/// Sheds that follow from what comes. That there is no backend has events of its own.
const SHED: [ShedReason; 5] = [
    ShedReason::QueueFull,
    ShedReason::QueueTimeout,
    ShedReason::Rate,
    ShedReason::Share,
    ShedReason::Throttled,
];

/// What goes on now.
#[derive(Debug, Default)]
pub struct Floods {
    /// By listener.
    listeners: Spells<(Arc<str>, Flood)>,
    /// By route and limit.
    routes: Spells<(Arc<str>, Arc<str>)>,
    services: Spells<Arc<str>>,
}

impl Control {
    /// Once a second.
    pub(super) fn tell_of_floods(&self) {
        let (snapshot, now) = (self.plane.current(), self.clock.now());
        let mut floods = lock(&self.floods);
        for ((listener, flood), told) in floods.listeners.look(ended(&snapshot), now) {
            let (listener, flood) = (listener.to_string(), flood.as_str());
            let (Told { step, count, .. }, lasted_ms) = (told, told.lasted_ms());
            self.tell_of_spell(
                None,
                told,
                Kind::Flood { listener, flood, step, ended: count, lasted_ms },
            );
        }
        for ((route, limit), told) in floods.routes.look(refused(&snapshot), now) {
            let (route, limit) = (route.to_string(), limit.to_string());
            let (Told { step, count, .. }, lasted_ms) = (told, told.lasted_ms());
            let kind = Kind::RequestFlood { route, limit, step, refused: count, lasted_ms };
            self.tell_of_spell(None, told, kind);
        }
        for (service, told) in floods.services.look(shed(&snapshot), now) {
            let (Told { step, count, .. }, lasted_ms) = (told, told.lasted_ms());
            self.tell_of_spell(Some(&service), told, Kind::Shed { step, shed: count, lasted_ms });
        }
    }

    fn tell_of_spell(&self, service: Option<&Arc<str>>, told: Told, kind: Kind) {
        match told.quiet {
            true => self.events.send_quietly(service, kind),
            false => self.events.send(service, kind),
        }
    }
}

/// Connections and streams that were ended.
fn ended(snapshot: &Snapshot) -> impl Iterator<Item = ((Arc<str>, Flood), u64)> {
    snapshot.listeners.iter().flat_map(|listener| {
        let name = &listener.config.name;
        Flood::ALL.iter().map(|&kind| ((name.clone(), kind), listener.stats.floods(kind)))
    })
}

/// Requests that limits refused, by route and limit.
fn refused(snapshot: &Snapshot) -> impl Iterator<Item = ((Arc<str>, Arc<str>), u64)> {
    snapshot.routes.iter().flat_map(|route| {
        let RouteView { config, limits, .. } = &**route;
        let name = &config.name;
        limits.iter().flat_map(move |limits| {
            let rates = limits.rates().iter().map(move |rate| {
                let refused = rate.limit.counts.refused.load(Relaxed);
                ((name.clone(), rate.limit.name().clone()), refused)
            });
            let full = ((name.clone(), Arc::from(CONCURRENCY)), limits.found_full());
            rates.chain([full])
        })
    })
}

fn shed(snapshot: &Snapshot) -> impl Iterator<Item = (Arc<str>, u64)> {
    let of = |stats: &ServiceStats| SHED.iter().map(|reason| stats.shed.get(*reason)).sum();
    let services = snapshot.services.iter();
    services.map(move |service| (service.config.name.clone(), service.stats.sum(of)))
}
