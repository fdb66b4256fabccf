//! Who is kept away, passed on to the new process: backends that live traffic ejected, and networks that are
//! banned. Both have a time at which that ends, which is the same for either process. How often something was
//! ejected or banned before, and counters of it, are not passed on.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::Micros;
use crate::limits::bans::Ban;
use crate::registry::{Entry, Pool};
use crate::telemetry::counter::Label;
use crate::upstream::gate::Terms;
use crate::upstream::outlier::{self, Reason, rule};

use super::super::core::Control;
use super::super::lock;
use super::state::{of_wall, to_wall};

/// An ejection that is on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ejection {
    reason: String,
    /// How often, forgiveness taken off.
    times: u16,
    /// µs since 1970.
    until: Micros,
    /// For people.
    why: Option<String>,
}

/// A ban that is on. Moments in µs since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Banned {
    network: IpNet,
    since: Micros,
    until: Micros,
    route: String,
    limit: String,
}

impl Ejection {
    pub fn of(control: &Control, entry: &Entry) -> Option<Self> {
        let terms = entry.backend.as_ref()?.gate.ejection()?;
        Some(Self {
            reason: outlier::reason(terms).as_str().to_owned(),
            times: terms.times,
            until: to_wall(&control.clock, terms.moment.saturating_mul(1000)),
            why: entry.ejected_for.clone(),
        })
    }

    /// Goes on with it, unless that would leave too few, or the rule is off in our configuration. That is no news:
    /// nobody is told.
    pub fn resume(&self, control: &Control, pool: &Pool, id: &str) -> bool {
        let Some(backend) = pool.get(id).and_then(|entry| entry.backend.as_ref()) else {
            return false;
        };
        let known = Reason::ALL.iter().position(|reason| reason.as_str() == self.reason);
        let rules = &pool.config().outlier;
        let Some(reason) = known.filter(|known| rule::is_on(Reason::ALL[*known], rules)) else {
            return false;
        };
        let moment = of_wall(&control.clock, self.until) / 1000;
        let terms = Terms { reason: reason as u8, times: self.times, moment };
        let members: Vec<_> = pool.entries().filter_map(|entry| entry.backend.as_deref()).collect();
        pool.outliers().resume(backend, terms, rules, members.into_iter())
    }

    pub fn why(&self) -> Option<String> {
        self.why.clone()
    }
}

impl Control {
    pub(super) fn banned(&self) -> Vec<Banned> {
        let wall = |at| to_wall(&self.clock, at);
        let all = self.plane.bans().all().into_iter();
        all.map(|(network, ban)| Banned {
            network,
            since: wall(ban.since),
            until: wall(ban.until),
            route: ban.route.to_string(),
            limit: ban.limit.to_string(),
        })
        .collect()
    }

    pub(super) fn inherit_bans(&self, banned: &[Banned]) {
        let here = |at| of_wall(&self.clock, at);
        for ban in banned {
            let by: (Arc<str>, Arc<str>) = (ban.route.as_str().into(), ban.limit.as_str().into());
            self.plane.bans().resume(ban.network, Ban::known(here(ban.since), here(ban.until), by));
        }
        self.plane.bans().publish_rest();
    }

    /// Ejections of a service, by the id of the backend.
    pub(super) fn inherit_ejections<'e>(
        &self,
        service: &str,
        ejected: impl Iterator<Item = (&'e str, &'e Ejection)>,
    ) {
        let mut registry = lock(&self.registry);
        for (id, ejection) in ejected {
            let Some(pool) = registry.pool(service) else { return };
            let resumed = ejection.resume(self, pool, id);
            let backend = pool.get(id).and_then(|entry| entry.backend.as_ref());
            if let Some(uid) = backend.map(|backend| backend.uid).filter(|_| resumed) {
                registry.ejected_for(uid, ejection.why());
            }
        }
    }
}
