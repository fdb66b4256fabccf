//! Backends that are added and removed over the admin API, and what is kept of them over a
//! restart.
//!
//! A change runs in a task of its own, one at a time: kept first, then in use. Whoever asked may
//! go away meanwhile.

use std::sync::{Arc, Mutex};

use crate::admin::{NewBackend, Refusal, view};
use crate::config::types::Config;
use crate::discovery::{Feed, Found, Kept, MAX_BACKENDS, Store, refusal};
use crate::registry::{Change, Registry};
use crate::upstream::backend::Source;

use super::core::Control;
use super::events::Kind;
use super::lock;

/// What was added.
#[derive(Default)]
pub struct Added {
    /// What is in use. A service that a reload takes away and another brings back has it again.
    live: Mutex<Kept>,
    /// What is on the disk. Held during a change, so that there is one at a time.
    kept: tokio::sync::Mutex<Kept>,
}

impl Added {
    /// Gives services their added backends that do not have them (yet, or any more).
    pub(super) fn restore(&self, registry: &mut Registry, config: &Config) -> Vec<Change> {
        let live = lock(&self.live);
        let mut changes = Vec::new();
        for (service, backends) in
            live.iter().filter(|(name, _)| config.services.contains_key(*name))
        {
            if registry.fed(service, &Feed::Admin) == 0 {
                let found: Vec<_> = backends.values().cloned().collect();
                let supplied = registry.supply(service, &Feed::Admin, Source::Admin, &found);
                for id in &supplied.clashes {
                    tracing::warn!(%service, backend = %id, "left out: the configuration has a backend of this id");
                }
                changes.extend(supplied.changes);
            }
        }
        changes
    }

    /// What is in use.
    pub(super) fn live(&self) -> Kept {
        lock(&self.live).clone()
    }

    fn of(&self, service: &str) -> Vec<Found> {
        lock(&self.live).get(service).map_or_else(Vec::new, |of| of.values().cloned().collect())
    }
}

impl Control {
    /// Reads what an earlier run kept. What cannot be used is told and left out.
    pub(super) fn read_added(&self) {
        let config = lock(&self.applied).taken.config.clone();
        let Ok(mut kept) = self.added.kept.try_lock() else { return };
        match Store::new(&config.runtime.state_dir).read() {
            Ok(read) => *kept = read,
            Err(error) => {
                let source = "admin".to_owned();
                self.events.send(None, Kind::DiscoveryFailed { source, error });
            }
        }
        self.inherit_added(kept.clone());
    }

    /// Takes up what another process had in use, or had kept, as far as the configuration allows it.
    pub(super) fn inherit_added(&self, mut live: Kept) {
        let config = lock(&self.applied).taken.config.clone();
        let own = self.own(&config);
        for (service, backends) in &mut live {
            if !config.services.contains_key(service) {
                tracing::warn!(%service, "backends are kept for a service that is not there");
            }
            backends.retain(|id, found| match may_be_added(&config, &own, found) {
                Ok(()) => true,
                Err(why) => {
                    tracing::warn!(%service, backend = %id, "a kept backend is left out: {why}");
                    false
                }
            });
        }
        *lock(&self.added.live) = live;
    }

    /// # Errors
    /// See [`Refusal`]; then nothing changed.
    pub(super) async fn add_backend(
        self: Arc<Self>,
        service: Arc<str>,
        new: NewBackend,
        persist: bool,
    ) -> Result<view::Backend, Refusal> {
        let mut kept = self.added.kept.lock().await;
        let config = lock(&self.applied).taken.config.clone();
        let found = Found {
            id: new.id.map_or_else(|| Found::at(new.address).id, Into::into),
            weight: new.weight,
            backup: new.backup,
            zone: new.zone.map(Into::into),
            ..Found::at(new.address)
        };
        let Some(name) = lock(&self.registry).pool(&service).map(|p| p.config().name.clone())
        else {
            return Err(no_service(&service));
        };
        may_be_added(&config, &self.own(&config), &found).map_err(Refusal::Forbidden)?;
        let mut found_now = self.added.of(&name);
        if found_now.len() >= MAX_BACKENDS {
            return Err(Refusal::Conflict(format!(
                "There are {MAX_BACKENDS} added backends already."
            )));
        }
        {
            let registry = lock(&self.registry);
            let there = registry.pool(&name).and_then(|pool| pool.get(&found.id));
            // One of ours that is on its way out may come back.
            if there.is_some_and(|e| e.feed != Some(Feed::Admin) || !e.leaving) {
                return Err(Refusal::Conflict(format!(
                    "Service \"{name}\" has a backend \"{}\" already.",
                    found.id
                )));
            }
        }
        if persist {
            let mut next = kept.clone();
            next.entry(name.clone()).or_default().insert(found.id.clone(), found.clone());
            self.save(&config, &next).await?;
            *kept = next;
        }
        found_now.push(found.clone());
        lock(&self.added.live)
            .entry(name.clone())
            .or_default()
            .insert(found.id.clone(), found.clone());
        let supplied = lock(&self.registry).supply(&name, &Feed::Admin, Source::Admin, &found_now);
        self.take_supplied(supplied);
        self.tell_operator(&name, format!("backend {} added at {}", found.id, found.address));
        self.view(&name)
            .and_then(|view| view.backends.into_iter().find(|b| *b.id == *found.id))
            .ok_or_else(|| Refusal::Conflict("The service is going away.".to_owned()))
    }

    /// Drains it; it goes once nothing runs on it. Resolves when no new pick can reach it.
    ///
    /// # Errors
    /// See [`Refusal`]; then nothing changed.
    pub(super) async fn remove_backend(
        self: Arc<Self>,
        service: Arc<str>,
        id: Arc<str>,
        persist: bool,
    ) -> Result<(), Refusal> {
        let mut kept = self.added.kept.lock().await;
        let config = lock(&self.applied).taken.config.clone();
        let (name, feed) = {
            let registry = lock(&self.registry);
            let pool = registry.pool(&service).ok_or_else(|| no_service(&service))?;
            let entry = pool.get(&id).filter(|e| !e.leaving).ok_or_else(|| {
                Refusal::NotFound(format!("Service \"{service}\" has no backend \"{id}\"."))
            })?;
            (pool.config().name.clone(), entry.feed.clone())
        };
        if feed != Some(Feed::Admin) {
            return Err(Refusal::Conflict(format!(
                "Backend \"{id}\" was not added over the API; drain it instead."
            )));
        }
        if persist && kept.get(&name).is_some_and(|of| of.contains_key(&id)) {
            let mut next = kept.clone();
            next.entry(name.clone()).or_default().remove(&id);
            self.save(&config, &next).await?;
            *kept = next;
        }
        if let Some(of) = lock(&self.added.live).get_mut(&name) {
            of.remove(&id);
        }
        let found = self.added.of(&name);
        let supplied = lock(&self.registry).supply(&name, &Feed::Admin, Source::Admin, &found);
        let generation = self.take_supplied(supplied);
        self.tell_operator(&name, format!("backend {id} removed"));
        drop(kept);
        if let Some(generation) = generation {
            self.acknowledged(generation).await;
        }
        Ok(())
    }

    async fn save(&self, config: &Config, next: &Kept) -> Result<(), Refusal> {
        let (store, next) = (Store::new(&config.runtime.state_dir), next.clone());
        let saved = tokio::task::spawn_blocking(move || store.write(&next)).await;
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::Unavailable(format!(
                "It could not be kept in state_dir: {error}; nothing changed."
            ))
        };
        saved.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }

    fn tell_operator(&self, service: &Arc<str>, order: String) {
        self.events.send(Some(service), Kind::Operator { order });
    }
}

fn no_service(service: &str) -> Refusal {
    Refusal::NotFound(format!("There is no service \"{service}\"."))
}

fn may_be_added(config: &Config, own: &crate::discovery::Own, found: &Found) -> Result<(), String> {
    let (ip, nets) = (found.address.ip().to_canonical(), &config.admin.dynamic_backends);
    if !nets.iter().any(|net| net.contains(&ip)) {
        return Err(format!("{} is not within admin.dynamic_backends.", found.address));
    }
    match refusal(found.address, own, &[]) {
        Some(why) => Err(format!("{why}.")),
        None => Ok(()),
    }
}
