//! Overload as the control plane sees it: what workers counted goes to `overload`, which learns how much backends can
//! take, and what it learns goes to picks (`upstream::limit`) and to who is let in (`upstream::admission`).
//!
//! Ten times a second: a backend that gets four times what it can do for a second has three seconds' work to do.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Micros;
use crate::overload::throttle::{Heard, Throttle};
use crate::overload::{Calm, Learner, Limits, Seen};
use crate::snapshot::ServiceView;
use crate::telemetry::{ServiceStats, ShedReason};
use crate::upstream::admission;
use crate::upstream::backend::Backend;
use crate::upstream::limit::Terms;

use super::core::Control;
use super::lock;

/// How often limits are looked at.
pub(super) const EVERY: Duration = Duration::from_millis(100);
/// And for each so many backends of a service: a look costs about 1 µs a backend.
const BACKENDS: u64 = 1000;

/// Of all services.
#[derive(Debug, Default)]
pub struct Overload {
    services: HashMap<Arc<str>, Service>,
}

impl Overload {
    /// What requests take in calm at a backend, to be passed on.
    pub(super) fn calm_of(&self, service: &str, uid: u64) -> Option<Calm> {
        self.services.get(service)?.learner.calm_of(uid)
    }

    /// Goes on with that.
    pub(super) fn believe(&mut self, service: &str, uid: u64, calm: Calm) {
        self.services.entry(service.into()).or_default().learner.believe(uid, calm);
    }
}

/// What is kept of one service from one look to the next.
#[derive(Debug, Default)]
struct Service {
    learner: Learner,
    throttle: Throttle,
    backends: HashMap<u64, Counted>,
    /// Requests turned away for want of capacity.
    shed: u64,
    arrived: u64,
    throttled: u64,
    looked: Option<Micros>,
    /// Since when it is overloaded, and whether the scaler has decided since.
    over: Option<(Micros, bool)>,
}

/// A backend's counters at the last look.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    done: u64,
    time: u64,
    low: u64,
    low_time: u64,
    low_sent: u64,
    low_back: u64,
    near: u64,
    picks: u64,
    rejected: u64,
}

impl Control {
    /// Looks at every service. An overload that begins is not left to the scaler's next tick.
    pub(super) fn look_for_overload(self: &Arc<Self>) {
        let begun = self.look_at_all();
        if begun.is_empty() {
            return;
        }
        let decided = self.decide_early(begun);
        let mut overload = lock(&self.overload);
        for name in decided {
            if let Some((_, decided)) =
                overload.services.get_mut(&name).and_then(|service| service.over.as_mut())
            {
                *decided = true;
            }
        }
    }

    /// Those that are overloaded, and since when, where nothing was decided since.
    fn look_at_all(&self) -> Vec<(Arc<str>, Micros)> {
        let snapshot = self.plane.current();
        let now = self.clock.now();
        let mut overload = lock(&self.overload);
        let mut begun = Vec::new();
        for view in &snapshot.services {
            let service = overload.services.entry(view.config.name.clone()).or_default();
            service.look(view, now);
            let longest = view.config.overload.queue_timeout.as_micros() as Micros;
            let is_over = service.learner.is_limited() || view.queue.is_congested(longest, now);
            service.over = is_over.then(|| service.over.unwrap_or((now, false)));
            if let Some((since, false)) = service.over {
                begun.push((view.config.name.clone(), since));
            }
        }
        if overload.services.len() > snapshot.services.len() {
            let live: HashSet<&str> = snapshot.services.iter().map(|s| &*s.config.name).collect();
            overload.services.retain(|name, _| live.contains(&**name));
        }
        begun
    }
}

impl Service {
    fn look(&mut self, view: &ServiceView, now: Micros) {
        let config = &view.config.overload;
        let backends = view.backends.len() as u64;
        // A little less, as ticks are never quite on time.
        let every = EVERY.as_micros() as u64 * 9 / 10 * (backends / BACKENDS).max(1);
        if self.looked.is_some_and(|looked| now.saturating_sub(looked) < every) {
            return;
        }
        let arrived = view.stats.iter().map(|stats| stats.flow(now).arrivals).sum::<u64>();
        if arrived == self.arrived && !view.admission.is_on() {
            // Nothing happens.
            self.looked = Some(now);
            return;
        }
        let before = self.looked.replace(now);
        let span = now.saturating_sub(before.unwrap_or(now)) as f64 / 1e6;
        if self.backends.len() > view.backends.len() {
            let live: HashSet<u64> = view.backends.iter().map(|m| m.backend.uid).collect();
            self.backends.retain(|uid, _| live.contains(uid));
        }
        let mut rejected = 0;
        let slow_start = view.config.slow_start;
        let mut seen: Vec<Seen> = view
            .backends
            .iter()
            .map(|member| {
                let backend = &*member.backend;
                let mut seen = self.seen(backend, &mut rejected);
                if backend.gate.is_available() && !member.backup {
                    seen.ramp = f64::from(backend.ramp_factor(now, slow_start));
                }
                seen
            })
            .collect();
        even_ramps(&mut seen);
        let shed = view.stats.sum(ServiceStats::shed_for_capacity);
        let refused = shed > self.shed || view.queue.depth() > 0;
        self.shed = shed;
        let requests = arrived.saturating_sub(self.arrived);
        self.arrived = arrived;
        // The first look only takes the counters in.
        if before.is_none() || span <= 0.0 {
            return;
        }
        let throttled = view.stats.sum(|stats| stats.shed.get(ShedReason::Throttled));
        let dropped = throttled.saturating_sub(self.throttled);
        self.throttled = throttled;
        let dropped = self.throttle.hear(Heard { requests, dropped, rejected }, span);
        let limits = match config.concurrency {
            true => self.learner.tick(&seen, span, refused, config.queue_timeout.as_secs_f64()),
            false => {
                self.learner = Learner::default();
                Limits::none()
            }
        };
        apply(view, &limits, dropped);
    }

    /// What a backend did since the last look.
    fn seen(&mut self, backend: &Backend, rejected: &mut u64) -> Seen {
        let counted = Counted::of(backend);
        // One that joined began to count at nothing.
        let before = self.backends.insert(backend.uid, counted).unwrap_or_default();
        let since = |of: fn(&Counted) -> u64| of(&counted).saturating_sub(of(&before));
        *rejected += since(|c| c.rejected);
        Seen {
            uid: backend.uid,
            done: since(|c| c.done),
            time: since(|c| c.time) as f64 / 1e6,
            low: since(|c| c.low),
            low_time: since(|c| c.low_time) as f64 / 1e6,
            low_open: counted.low_sent.saturating_sub(counted.low_back) as u32,
            picks: since(|c| c.picks),
            near: since(|c| c.near),
            in_flight: backend.gate.in_flight(),
            tunnels: backend.tunnels(),
            ramp: 0.0,
        }
    }
}

impl Counted {
    fn of(backend: &Backend) -> Self {
        let mut sum = Self::default();
        for stats in backend.stats.iter() {
            let work = &stats.work;
            sum.done += work.done.get();
            sum.time += work.time.get();
            sum.low += work.low.get();
            sum.low_time += work.low_time.get();
            // In this order: what is on its way between the two counts as under way, never as less than none.
            sum.low_back += work.low_back.get();
            sum.low_sent += work.low_sent.get();
            sum.near += work.near.get();
            sum.picks += stats.requests.get();
            sum.rejected += work.rejected.get();
        }
        sum
    }
}

/// Where more than half would ramp none is held back; picking goes by the same rule, so all of them get as much as they
/// can take.
fn even_ramps(seen: &mut [Seen]) {
    let serving = || seen.iter().filter(|one| one.ramp > 0.0);
    if serving().filter(|one| one.ramp < 1.0).count() * 2 > serving().count() {
        seen.iter_mut().filter(|one| one.ramp > 0.0).for_each(|one| one.ramp = 1.0);
    }
}

/// Gives the data plane what follows.
fn apply(view: &ServiceView, limits: &Limits, dropped: f64) {
    let own = view.config.max_in_flight;
    let mut places = 0_u32;
    for (i, backend) in view.backends.iter().map(|member| &member.backend).enumerate() {
        let limit = limits.of.get(i).copied().unwrap_or_default();
        // What the file says goes first.
        let most = if own > 0 { 0 } else { limit.most };
        backend.limit.set(Terms { most, low: limit.low.max(1) });
        if backend.gate.is_available() {
            places = places.saturating_add(most);
        }
    }
    let rate = if view.config.overload.rate_limit { limits.rate } else { f64::INFINITY };
    let was = view.admission.places();
    view.admission.set(admission::Terms { rate, places, dropped });
    if was != places {
        // There may be more places.
        view.queue.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramps_count_while_at_most_half_of_the_backends_have_one() {
        let evened = |ramps: &[f64]| {
            let mut seen: Vec<_> =
                ramps.iter().map(|ramp| Seen { ramp: *ramp, ..Seen::default() }).collect();
            even_ramps(&mut seen);
            seen.iter().map(|one| one.ramp).collect::<Vec<_>>()
        };
        assert_eq!(evened(&[1.0, 0.3, 0.0]), [1.0, 0.3, 0.0]);
        assert_eq!(evened(&[1.0, 0.3, 0.1, 0.0]), [1.0, 1.0, 1.0, 0.0]);
        assert!(evened(&[]).is_empty());
    }
}
