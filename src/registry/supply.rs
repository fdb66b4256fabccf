//! Backends that a feed brings and takes away again: names, SRV records, a file, the admin API.
//!
//! What is no longer named is drained and then goes; named again before that, it takes requests
//! again. It serves on while nobody else can: where all backends are replaced, their successors
//! have to pass a check first. What is new waits for its first check like any new backend; only the first answer of a
//! fixed backend's name is up until checks fail, as a number in its place would be.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clock::Micros;
use crate::config::types::{self as config, Address};
use crate::discovery::{Feed, Found};
use crate::health::judge::Verdict;
use crate::upstream::backend::{Backend, Source};
use crate::upstream::gate::State;

use super::pool::{authority, numeric};
use super::{Change, DrainedBy, Entry, Pool, Registry};

/// What came of an answer.
#[derive(Debug, Default)]
pub struct Supplied {
    pub changes: Vec<Change>,
    /// To be taken out with [`Registry::left`] once nothing runs on them.
    pub leaving: Vec<Arc<Backend>>,
    /// How many are new.
    pub joined: usize,
    /// Ids that other backends of the service have: these were left out.
    pub clashes: Vec<Arc<str>>,
}

/// What a pool needs to make backends.
struct Maker<'a> {
    feed: &'a Feed,
    source: Source,
    now: Micros,
    warm: bool,
    workers: usize,
    /// The state that new ones begin in.
    state: State,
}

impl Registry {
    /// A feed says what there is now, all of it.
    pub fn supply(
        &mut self,
        service: &str,
        feed: &Feed,
        source: Source,
        found: &[Found],
    ) -> Supplied {
        let (now, warm, workers) = (self.clock.now(), self.warm, self.workers);
        // A last word may come after a reload took its feed away.
        if !self.pools.get(service).is_some_and(|pool| pool.follows(feed)) {
            return Supplied::default();
        }
        let Some(mut pool) = self.pools.remove(service) else { return Supplied::default() };
        let state = match source == Source::Fixed && !pool.is_fed(feed) {
            true => State::Ready,
            false => State::Starting,
        };
        let maker = Maker { feed, source, now, warm, workers, state };
        let supplied = pool.supply(&maker, found, || self.uid());
        self.pools.insert(pool.config.name.clone(), pool);
        supplied
    }

    /// How many backends of a feed there are that it still names.
    pub fn fed(&self, service: &str, feed: &Feed) -> usize {
        let Some(pool) = self.pools.get(service) else { return 0 };
        let of = |e: &&Entry| e.feed.as_ref() == Some(feed) && e.backend.is_some() && !e.leaving;
        pool.entries().filter(of).count()
    }

    /// A feed could not say what there is; kept for showing.
    pub fn unfed(&mut self, service: &str, feed: &Feed, why: &str) {
        let Some(pool) = self.pools.get_mut(service) else { return };
        for entry in pool.entries.values_mut().filter(|e| e.feed.as_ref() == Some(feed)) {
            if entry.backend.is_none() {
                entry.checked = true;
                entry.last_error = Some(why.to_owned());
            }
        }
    }

    /// Whether a backend that leaves is still needed: no other of its service is available.
    /// `None`: it does not leave any more.
    pub fn is_needed(&self, backend: &Backend) -> Option<bool> {
        let pool = self.pools.get(&backend.service)?;
        let entry = pool.entries.get(&backend.id)?;
        let same = entry.backend.as_ref().is_some_and(|b| b.uid == backend.uid);
        let others = || pool.entries().any(|e| !e.leaving && e.is_available());
        (same && entry.leaving).then(|| !others())
    }

    /// Drains a backend that leaves and was needed until now.
    pub fn leave(&mut self, backend: &Backend) -> Vec<Change> {
        let now = self.clock.now();
        match (self.is_needed(backend), self.pools.get_mut(&backend.service)) {
            (Some(_), Some(pool)) => {
                pool.drain(&backend.id, DrainedBy::Removed, now).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// A backend that was leaving is drained: it goes, unless it was named again meanwhile.
    pub fn left(&mut self, backend: &Backend) -> Vec<Change> {
        let now = self.clock.now();
        match self.pools.get_mut(&backend.service) {
            Some(pool) => pool.left(backend, now).into_iter().collect(),
            None => Vec::new(),
        }
    }
}

impl Pool {
    fn follows(&self, feed: &Feed) -> bool {
        match feed {
            Feed::Name(id) => self
                .config
                .backends
                .iter()
                .any(|fixed| fixed.id == *id && fixed.address().is_none()),
            Feed::Discovery => self.config.discovery.is_some(),
            Feed::Admin => true,
        }
    }

    fn is_fed(&self, feed: &Feed) -> bool {
        self.entries.values().any(|e| e.feed.as_ref() == Some(feed) && e.backend.is_some())
    }

    /// Takes a name's settings in; while it has no address one entry stands for it.
    pub(super) fn configure_name(&mut self, fixed: &config::FixedBackend, now: Micros) {
        let feed = Feed::Name(fixed.id.clone());
        let mut none = true;
        for entry in self.entries.values_mut().filter(|e| e.feed.as_ref() == Some(&feed)) {
            (entry.weight, entry.backup, none) = (fixed.weight, fixed.backup, false);
            entry.zone.clone_from(&fixed.zone);
        }
        if none {
            let new = Entry::new(fixed.id.clone(), Source::Fixed, now);
            let (weight, backup, zone) = (fixed.weight, fixed.backup, fixed.zone.clone());
            let entry = Entry { weight, backup, zone, feed: Some(feed), ..new };
            self.entries.entry(fixed.id.clone()).or_insert(entry);
        }
    }

    fn supply(
        &mut self,
        maker: &Maker<'_>,
        found: &[Found],
        mut uid: impl FnMut() -> u64,
    ) -> Supplied {
        let mut supplied = Supplied::default();
        let served: BTreeSet<_> =
            self.entries.values().filter(|e| e.is_available()).map(|e| e.id.clone()).collect();
        for one in found {
            self.take_in(maker, one, &mut uid, &mut supplied);
        }
        let named: BTreeSet<&str> = found.iter().map(|f| &*f.id).collect();
        let gone: Vec<_> = self
            .entries
            .values()
            .filter(|e| e.feed.as_ref() == Some(maker.feed) && !e.leaving)
            .filter(|e| e.backend.is_some() && !named.contains(&*e.id))
            .map(|e| e.id.clone())
            .collect();
        // Where those that are left are only starting, or so new that no worker has heard of them,
        // what is gone serves on.
        let mut stays = self.entries.values().filter(|e| !e.leaving && !gone.contains(&e.id));
        let serves = |e: &Entry| e.is_available() && served.contains(&e.id);
        let comes = |e: &Entry| e.is_available() || e.state() == State::Starting;
        let wait = !stays.clone().any(serves) && stays.any(comes);
        for id in gone {
            self.let_go(&id, wait, maker.now, &mut supplied);
        }
        if let Feed::Name(id) = maker.feed
            && !found.is_empty()
            && self.entries.get(id).is_some_and(|e| e.backend.is_none())
        {
            self.entries.remove(id);
        }
        supplied
    }

    fn take_in(
        &mut self,
        maker: &Maker<'_>,
        one: &Found,
        uid: &mut impl FnMut() -> u64,
        supplied: &mut Supplied,
    ) {
        let now = maker.now;
        let mut old = None;
        if let Some(entry) = self.entries.get_mut(&one.id) {
            if entry.feed.as_ref() != Some(maker.feed) {
                supplied.clashes.push(one.id.clone());
                return;
            }
            let same = entry.address().and_then(Address::tcp) == Some(one.address)
                && entry.source == maker.source;
            if let (true, Some(backend)) = (same, entry.backend.clone()) {
                let before = (entry.weight, entry.backup, entry.zone.clone());
                (entry.weight, entry.backup) = (one.weight, one.backup);
                entry.zone.clone_from(&one.zone);
                let after = (entry.weight, entry.backup, entry.zone.clone());
                let back = std::mem::take(&mut entry.leaving)
                    && entry.drain.is_some_and(|drain| drain.by == DrainedBy::Removed);
                if before != after {
                    self.view = None;
                    supplied.changes.push(Change::Weighted { backend });
                }
                if back {
                    let back = self.undrain(&one.id, DrainedBy::Removed, now, maker.warm);
                    supplied.changes.extend(back.unwrap_or_default());
                }
                return;
            }
            old = entry.backend.take();
            entry.leaving = false;
            // What was drained for leaving left; a person's drain goes on at the new place.
            entry.drain = entry.drain.filter(|drain| drain.by == DrainedBy::Operator);
        }
        let (cap, usual) = (self.outliers().cap().clone(), self.usual_limit());
        let entry = self
            .entries
            .entry(one.id.clone())
            .or_insert_with(|| Entry::new(one.id.clone(), maker.source, now));
        let backend = Backend::new(
            uid(),
            self.config.name.clone(),
            one.id.clone(),
            one.address.into(),
            host_of(one),
            maker.source,
            if entry.drain.is_some() { State::Draining } else { maker.state },
            maker.workers,
        );
        let backend = Arc::new(backend.under(&cap).within(usual));
        entry.feed = Some(maker.feed.clone());
        entry.source = maker.source;
        (entry.weight, entry.backup, entry.since) = (one.weight, one.backup, now);
        entry.zone.clone_from(&one.zone);
        entry.backend = Some(backend.clone());
        self.view = None;
        supplied.joined += 1;
        if let Some(old) = old {
            // It stays good until workers have its successor; what runs on it runs on.
            let (service, id) = (old.service.clone(), old.id.clone());
            supplied.changes.push(Change::Gone { service, id, backend: Some(old), crash: None });
        }
        let uid = backend.uid;
        supplied.changes.push(Change::Joined { backend: backend.clone() });
        let kind = &self.config.health.kind;
        let check = if maker.source == Source::Fixed { kind.fixed } else { kind.orchestrated };
        // Without a check, being named is all that can be asked for.
        if check == config::Check::None && backend.gate.state() == State::Starting {
            supplied.changes.extend(self.verdict(uid, Verdict::Healthy, None, now, maker.warm));
        }
    }

    fn let_go(&mut self, id: &str, wait: bool, now: Micros, supplied: &mut Supplied) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(backend) = entry.backend.clone() else { return };
        entry.leaving = true;
        // Drained by a person already: that is enough, and is still theirs if it comes back.
        if entry.drain.is_none() && !wait {
            let drained = self.drain(id, DrainedBy::Removed, now);
            supplied.changes.extend(drained.unwrap_or_default());
        }
        supplied.leaving.push(backend);
    }

    fn left(&mut self, backend: &Backend, now: Micros) -> Option<Change> {
        let entry = self.entries.get(&backend.id)?;
        let still = entry.leaving && entry.backend.as_ref().is_some_and(|b| b.uid == backend.uid);
        if !still {
            return None;
        }
        let change = self.remove(&backend.id, None);
        let config = self.config.clone();
        for fixed in config.backends.iter().filter(|fixed| fixed.address().is_none()) {
            self.configure_name(fixed, now);
        }
        change
    }
}

/// What is sent as Host with `host = "backend"`.
fn host_of(one: &Found) -> http::HeaderValue {
    let named = one
        .named
        .as_ref()
        .and_then(|(host, port)| http::HeaderValue::try_from(authority(host, *port)).ok());
    named.unwrap_or_else(|| numeric(one.address))
}
