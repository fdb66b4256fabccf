//! Self-healing: a backend of an orchestrator that stays broken is drained, stopped and replaced.
//!
//! Broken is unhealthy by checks or ejected by live traffic. One that was so for `start_timeout` had as long as a
//! new one would take. One at a time, and the next no sooner than after the same time again: where everything
//! is broken the cause is most likely elsewhere, and a restart of all would only make it worse.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::ScalingMode;
use crate::orchestrator::Victims;
use crate::registry::{DrainedBy, Entry};
use crate::upstream::gate::State;

use super::core::Control;
use super::events::Kind;
use super::lock;
use super::managed::Managed;

/// Well for so long: it was broken and is not any more. Between two ejections a backend is tried.
const WELL: Micros = 30_000_000;

/// What is broken, by service and backend.
#[derive(Debug, Default)]
pub struct Broken {
    seen: HashMap<(Arc<str>, Arc<str>), Seen>,
    /// When a backend of the service was replaced last.
    replaced: HashMap<Arc<str>, Micros>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Micros,
    last: Micros,
}

impl Broken {
    /// Notes who is broken now; who is to be replaced, and how long it was broken.
    fn look(
        &mut self,
        service: &Arc<str>,
        broken: &[Arc<str>],
        now: Micros,
        limit: Duration,
    ) -> Option<(Arc<str>, Duration)> {
        for id in broken {
            let new = Seen { first: now, last: now };
            self.seen.entry((service.clone(), id.clone())).or_insert(new).last = now;
        }
        self.seen.retain(|_, seen| now.saturating_sub(seen.last) < WELL);
        let limit = limit.as_micros() as Micros;
        if self.replaced.get(service).is_some_and(|at| now.saturating_sub(*at) < limit) {
            return None;
        }
        let longest = broken
            .iter()
            .filter_map(|id| Some((id, self.seen.get(&(service.clone(), id.clone()))?.first)))
            .min_by_key(|(_, first)| *first)?;
        let (id, lasted) = (longest.0.clone(), now.saturating_sub(longest.1));
        if lasted < limit {
            return None;
        }
        self.replaced.insert(service.clone(), now);
        self.seen.remove(&(service.clone(), id.clone()));
        Some((id, Duration::from_micros(lasted)))
    }
}

impl Control {
    /// Once a second.
    pub(super) fn heal(self: &Arc<Self>, managed: &Managed) {
        let may = self.standing.may_change() && self.standing.is_alone();
        if !may || managed.orchestrator().capabilities().victims == Victims::Balanced {
            return;
        }
        let limit = managed.config().start_timeout;
        let found = {
            let registry = lock(&self.registry);
            let Some(pool) = registry.pool(&managed.service) else { return };
            let mode = pool.config().scaling.as_ref().map(|scaling| scaling.mode);
            if matches!(mode, Some(ScalingMode::DryRun | ScalingMode::Off)) {
                return;
            }
            let broken: Vec<_> =
                pool.entries().filter(|e| is_broken(e)).map(|e| e.id.clone()).collect();
            let now = self.clock.now();
            let found = lock(&self.broken).look(&managed.service, &broken, now, limit);
            found.map(|(id, lasted)| {
                let why =
                    pool.get(&id).and_then(|e| e.ejected_for.clone().or(e.last_error.clone()));
                (id, lasted, why)
            })
        };
        let Some((id, lasted, why)) = found else { return };
        let why = why.map_or(String::new(), |why| format!(", last: {why}"));
        let reason = format!(
            "backend {id} was broken for {:.0} s and is replaced{why}",
            lasted.as_secs_f64()
        );
        self.events.send(Some(&managed.service), Kind::Healing { backend: id.to_string(), reason });
        let service = managed.service.clone();
        tokio::spawn(self.clone().drain_and_stop(service, id, DrainedBy::Healing));
    }
}

fn is_broken(entry: &Entry) -> bool {
    let gate = entry.backend.as_ref().map(|backend| &backend.gate);
    entry.is_orchestrated()
        && entry.drain.is_none()
        && !entry.stopping
        && entry.state() == State::Ready
        && gate.is_some_and(|gate| !gate.is_healthy() || gate.is_ejected())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const SECOND: Micros = 1_000_000;

    #[test]
    fn the_longest_broken_goes_first_and_the_next_waits() {
        let (mut broken, service): (_, Arc<str>) = (Broken::default(), "app".into());
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut gone = Vec::new();
        for second in 0..200 {
            let mut now = Vec::new();
            if second >= 5 {
                now.push(b.clone());
            }
            now.push(a.clone());
            now.retain(|id| !gone.iter().any(|(_, other)| other == id));
            let found = broken.look(&service, &now, second * SECOND, LIMIT);
            gone.extend(found.map(|(id, _)| (second, id)));
        }
        assert_eq!(gone, [(60, a), (120, b)]);
    }

    #[test]
    fn who_was_well_for_a_while_begins_anew() {
        let (mut broken, service): (_, Arc<str>) = (Broken::default(), "app".into());
        let a: Arc<str> = "a".into();
        let found = |broken: &mut Broken, second: Micros, is: bool| {
            let ids: &[Arc<str>] = if is { std::slice::from_ref(&a) } else { &[] };
            broken.look(&service, ids, second * SECOND, LIMIT).map(|(_, lasted)| lasted.as_secs())
        };
        // Tried now and then, and ejected again.
        for second in 0..60 {
            assert_eq!(found(&mut broken, second, second % 20 < 15), None);
        }
        assert_eq!(found(&mut broken, 61, true), Some(61));
        let mut broken = Broken::default();
        for second in 0..150 {
            assert_eq!(
                found(&mut broken, second, !(40..80).contains(&second) && second < 139),
                None
            );
        }
        assert_eq!(found(&mut broken, 150, true), Some(70), "from when it was broken again");
    }
}
