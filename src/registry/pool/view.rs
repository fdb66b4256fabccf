//! What workers see of a service: its backends as members, and what picking among them needs to have ready.

use std::sync::Arc;

use crate::config::types as config;
use crate::registry::Entry;
use crate::snapshot::maglev::Maglev;
use crate::snapshot::sessions::Sessions;
use crate::snapshot::{Member, ServiceView};

use super::Pool;

impl Pool {
    pub(super) fn new_view(&mut self) -> ServiceView {
        // Where nobody is in the zone, or it is not known, all are equally near.
        let own = |e: &Entry| self.zone.is_some() && e.zone == self.zone;
        let zoned = self.entries.values().any(|e| own(e) && e.backend.is_some());
        let near = |e: &Entry| !zoned || own(e);
        // Fixed backends in file order, then the others by id.
        let member = |e: &Entry| {
            let backend = e.backend.clone()?;
            let near = near(e);
            Some(Member { backend, weight: e.weight, backup: e.backup, near })
        };
        let backends: Vec<_> = self.fixed().chain(self.others()).filter_map(member).collect();
        let hashes = self.config.balance == config::Balance::Hash;
        let fits = self.maglev.take().filter(|maglev| hashes && maglev.fits(&backends));
        let made = || hashes.then(|| Arc::new(Maglev::new(&backends)));
        self.maglev = fits.or_else(made);
        let sessions = self.config.sticky.as_ref().and_then(|sticky| {
            let own = sticky.secret.as_ref().map(|secret| &*secret.bytes);
            let key = own.or(self.session_key.as_deref())?;
            let name = self.config.name.clone();
            Some(Sessions::new(name, &sticky.cookie, sticky.ttl, key, &backends))
        });
        ServiceView {
            config: self.config.clone(),
            backends,
            sessions,
            stats: self.stats.clone(),
            budget: self.budget.clone(),
            hedges: self.hedges.clone(),
            peers: self.peers.clone(),
            tls: self.tls.clone(),
            outliers: self.outliers.clone(),
            maglev: self.maglev.clone(),
            queue: self.queue.clone(),
            admission: self.admission.clone(),
            hold: self.may_sleep().then(|| self.hold.clone()),
        }
    }
}
