//! What an orchestrator lists becomes entries: new ones, those that have an address now, and those that are gone.

use std::sync::Arc;

use crate::clock::{Clock, Micros};
use crate::config::types as config;
use crate::health::judge::Verdict;
use crate::orchestrator::{Instance, InstanceState};
use crate::upstream::backend::{Backend, Source};
use crate::upstream::gate::State;

use super::super::{Change, Drain, DrainedBy, Entry};
use super::{Pool, numeric};

impl Pool {
    pub(in crate::registry) fn observe(
        &mut self,
        instances: &[Instance],
        clock: &Clock,
        workers: usize,
        warm: bool,
        mut uid: impl FnMut() -> u64,
    ) -> Vec<Change> {
        let now = clock.now();
        let mut changes = Vec::new();
        for instance in instances {
            if let InstanceState::Exited(cause) = &instance.state {
                changes.extend(self.remove(&instance.id, Some(cause.clone())));
                continue;
            }
            self.see(instance, clock, workers, &mut uid, &mut changes);
        }
        let listed = |id: &str| instances.iter().any(|i| *i.id == *id);
        let gone: Vec<_> = self
            .entries
            .values()
            .filter(|e| e.is_orchestrated() && !listed(&e.id))
            .map(|e| e.id.clone())
            .collect();
        for id in gone {
            changes.extend(self.remove(&id, None));
        }
        // Without a check, running is all that can be asked for.
        if self.config.health.kind.orchestrated == config::Check::None {
            let running: Vec<_> = instances
                .iter()
                .filter(|i| i.state == InstanceState::Running)
                .filter_map(|i| self.entries.get(&i.id))
                .filter(|e| e.state() == State::Starting)
                .filter_map(|e| e.backend.as_ref().map(|b| b.uid))
                .collect();
            for uid in running {
                changes.extend(self.verdict(uid, Verdict::Healthy, None, now, warm));
            }
        }
        changes
    }

    fn see(
        &mut self,
        instance: &Instance,
        clock: &Clock,
        workers: usize,
        uid: &mut impl FnMut() -> u64,
        changes: &mut Vec<Change>,
    ) {
        let now = clock.now();
        let usual = self.usual_limit();
        let entry = self.entries.entry(instance.id.clone()).or_insert_with(|| Entry {
            ordered: started(instance, clock),
            adopted: instance.started_at < clock.wall(0),
            ..Entry::new(instance.id.clone(), Source::Orchestrator, now)
        });
        // An instance may have the id of a fixed backend; the file's word goes first.
        if !entry.is_orchestrated() {
            return;
        }
        if entry.zone != instance.zone {
            entry.zone.clone_from(&instance.zone);
            self.view = None;
        }
        if let (None, Some(address)) = (&entry.backend, instance.address) {
            let stopping = instance.state == InstanceState::Stopping;
            let backend = Backend::new(
                uid(),
                self.config.name.clone(),
                instance.id.clone(),
                address.into(),
                numeric(address),
                Source::Orchestrator,
                if stopping || entry.drain.is_some() { State::Draining } else { State::Starting },
                workers,
            );
            let backend = Arc::new(backend.under(self.outliers.cap()).within(usual));
            entry.backend = Some(backend.clone());
            entry.since = now;
            self.view = None;
            changes.push(Change::Joined { backend });
        }
        if instance.state == InstanceState::Stopping && !entry.stopping {
            entry.stopping = true;
            if entry.drain.is_none() {
                entry.drain = Some(Drain { by: DrainedBy::Removed, since: now, was_ready: false });
                if let Some(backend) = &entry.backend {
                    backend.set_state(State::Draining);
                    self.view = None;
                    let (backend, by) = (backend.clone(), DrainedBy::Removed);
                    changes.push(Change::Draining { backend, by });
                }
            }
        }
    }
}

/// When an instance was started, on our clock; before our own start it is our start.
fn started(instance: &Instance, clock: &Clock) -> Micros {
    let now = clock.now();
    let age = clock.wall(now).duration_since(instance.started_at).unwrap_or_default();
    now.saturating_sub(age.as_micros() as u64)
}
