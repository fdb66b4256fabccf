//! What the configuration no longer names: drained, then ended with all that was started for it.
//!
//! That goes for a removed service, for an orchestrator removed from a service that stays, and
//! for what an earlier tidegate started for either. `on_exit` has no say in it: it is about the
//! end of tidegate, and nobody would look after these any more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::types::Config;
use crate::orchestrator::kinds::Kinds;
use crate::registry::{Change, DrainedBy, Pool};
use crate::upstream::backend::Backend;
use crate::upstream::gate::State;

use super::core::Control;
use super::drain::Limits;
use super::lock;
use super::managed::Managed;
use super::services::Tasks;

/// How long an orchestrator may take to end what it started, beyond the grace.
const MARGIN: Duration = Duration::from_secs(5);
/// For backends that have no orchestrator to say how long.
pub(super) const FIXED: Limits =
    Limits { requests: Duration::from_secs(300), tunnels: Duration::from_secs(30) };

impl Control {
    /// Lets services go, and orchestrators whose service stays without one.
    pub(super) fn retire(self: &Arc<Self>, tasks: &mut Tasks, retired: Vec<Pool>, config: &Config) {
        for pool in retired {
            let backends = pool.entries().filter_map(|e| e.backend.clone()).collect();
            self.retire_one(tasks, pool.config().name.clone(), backends);
        }
        let stays = |name: &Arc<str>| {
            config.services.get(name).is_some_and(|service| service.orchestrator.is_some())
        };
        let alone: Vec<_> =
            lock(&self.managed).keys().filter(|name| !stays(name)).cloned().collect();
        let released: Vec<_> = {
            let mut registry = lock(&self.registry);
            alone.into_iter().map(|name| (registry.release(&name), name)).collect()
        };
        if !released.is_empty() {
            self.publish();
        }
        for (backends, name) in released {
            self.retire_one(tasks, name, backends);
        }
    }

    fn retire_one(
        self: &Arc<Self>,
        tasks: &mut Tasks,
        service: Arc<str>,
        backends: Vec<Arc<Backend>>,
    ) {
        for task in tasks.orchestrated.remove(&service).unwrap_or_default() {
            task.abort();
        }
        let managed = lock(&self.managed).remove(&service);
        if managed.is_some() {
            lock(&self.ending).insert(service.clone(), managed.clone());
        }
        let control = self.clone();
        tokio::spawn(async move {
            control.end(backends, managed).await;
            lock(&control.ending).remove(&service);
        });
    }

    async fn end(self: &Arc<Self>, backends: Vec<Arc<Backend>>, managed: Option<Arc<Managed>>) {
        // The snapshot without them is published. Requests that were routed by the one before are
        // served; then nobody picks them any more.
        self.acknowledged(self.plane.current().generation).await;
        for backend in &backends {
            backend.set_state(State::Draining);
        }
        let config = managed.as_ref().map(|m| m.config());
        let limits = config.as_ref().map_or(FIXED, Limits::of);
        let waits = backends.iter().map(|backend| async {
            let ended = self.wait_idle(backend, limits).await;
            self.tell_drained(backend, DrainedBy::Removed, ended);
            let (service, id) = (backend.service.clone(), backend.id.clone());
            backend.set_state(State::Gone);
            self.after(&Change::Gone { service, id, backend: Some(backend.clone()), crash: None });
        });
        futures_util::future::join_all(waits).await;
        // The process before us may have requests there that we do not see.
        self.standing.alone().await;
        if let (Some(managed), Some(config)) = (managed, config) {
            let limit = config.stop_grace + MARGIN;
            let ended = tokio::time::timeout(limit, managed.orchestrator().shutdown(true)).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::warn!(service = %managed.service, "its orchestrator did not end everything");
            }
        }
    }

    /// Ends what an earlier tidegate started for services that are not run (or not by the same
    /// kind of orchestrator) any more: the file was changed between a crash and this start.
    pub(super) fn end_leftovers(self: &Arc<Self>, kinds: Kinds, config: &Config) {
        let run: BTreeMap<Arc<str>, String> = config
            .services
            .iter()
            .filter_map(|(name, service)| {
                Some((name.clone(), service.orchestrator.as_ref()?.kind.to_string()))
            })
            .collect();
        let Ok(folders) = std::fs::read_dir(config.runtime.state_dir.join("services")) else {
            return;
        };
        for folder in folders.flatten().filter(|f| f.file_type().is_ok_and(|t| t.is_dir())) {
            let Ok(name) = folder.file_name().into_string() else { continue };
            let service: Arc<str> = name.into();
            let kind = run.get(&service).cloned();
            if kind.is_none() {
                // A reload that brings the service back waits for this.
                lock(&self.ending).insert(service.clone(), None);
            }
            let (control, kinds) = (self.clone(), kinds.clone());
            tokio::task::spawn_blocking(move || {
                end_folder(&kinds, &service, kind.as_deref(), folder.path());
                if kind.is_none() {
                    lock(&control.ending).remove(&service);
                }
            });
        }
    }
}

fn end_folder(kinds: &Kinds, service: &str, kind: Option<&str>, folder: PathBuf) {
    for (_, factory) in kinds.iter().filter(|(name, _)| Some(*name) != kind) {
        match factory.end_leftovers(&folder) {
            Ok(0) => {}
            Ok(n) => tracing::warn!(
                service,
                "{n} instances of an earlier tidegate were stopped: they are not in the configuration any more"
            ),
            Err(error) => tracing::warn!(
                service,
                "what an earlier tidegate left behind cannot be ended: {}: {error}",
                folder.display()
            ),
        }
    }
}
