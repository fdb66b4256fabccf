//! The instances of one service, and the view of them that snapshots hold.

mod observed;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Micros;
use crate::config::types::{self as config, Address};
use crate::discovery::Feed;
use crate::snapshot::ServiceView;
use crate::snapshot::maglev::Maglev;
use crate::telemetry::histogram::Merged;
use crate::telemetry::{PerWorker, ServiceStats};
use crate::tls::origin::OriginClient;
use crate::upstream::admission::Admission;
use crate::upstream::backend::{Backend, Source};
use crate::upstream::budget::RetryBudget;
use crate::upstream::gate::State;
use crate::upstream::hold::Hold;
use crate::upstream::learned::Peers;
use crate::upstream::limit;
use crate::upstream::outlier::{Notice, Outliers};
use crate::upstream::queue::Queue;

use super::{Change, DrainedBy, Entry, LeadTime};

/// The instances of one service.
#[derive(Debug)]
pub struct Pool {
    pub(super) config: Arc<config::Service>,
    stats: Arc<PerWorker<ServiceStats>>,
    budget: Arc<RetryBudget>,
    hedges: Arc<RetryBudget>,
    peers: Arc<Peers>,
    pub(super) tls: Option<Arc<OriginClient>>,
    maglev: Option<Arc<Maglev>>,
    pub(super) queue: Arc<Queue>,
    admission: Arc<Admission>,
    hold: Arc<Hold>,
    pub(super) session_key: Option<Arc<[u8]>>,
    outliers: Arc<Outliers>,
    /// This proxy's own.
    pub(super) zone: Option<Arc<str>>,
    pub(super) entries: BTreeMap<Arc<str>, Entry>,
    /// Kept until the membership or the settings change, so that workers can tell by pointer.
    pub(super) view: Option<Arc<ServiceView>>,
    pub(crate) lead: LeadTime,
    /// Orchestrated ones that served and went away by themselves since they were last asked for.
    pub(super) lost: u32,
}

impl Pool {
    pub(super) fn new(
        config: Arc<config::Service>,
        workers: usize,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        let hold = Arc::new(Hold::new(&config.name));
        Self {
            config,
            stats: Arc::new(PerWorker::new(workers)),
            budget: Arc::default(),
            hedges: Arc::default(),
            peers: Arc::new(Peers::new(workers)),
            tls: None,
            maglev: None,
            queue: Arc::new(Queue::new(workers)),
            admission: Arc::default(),
            hold,
            session_key: None,
            outliers: Arc::new(Outliers::new(notices)),
            zone: None,
            entries: BTreeMap::new(),
            view: None,
            lead: LeadTime::default(),
            lost: 0,
        }
    }

    pub fn config(&self) -> &Arc<config::Service> {
        &self.config
    }

    /// How its backends are spoken to over TLS.
    pub fn tls(&self) -> Option<&Arc<OriginClient>> {
        self.tls.as_ref()
    }

    pub fn stats(&self) -> &Arc<PerWorker<ServiceStats>> {
        &self.stats
    }

    /// Requests that wait for a place now.
    pub fn queued(&self) -> u32 {
        self.queue.depth()
    }

    /// Who is let in while it is overloaded.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Requests that wait for it to wake, where it may sleep.
    pub fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    /// Whether it may be without any backend.
    pub fn may_sleep(&self) -> bool {
        self.config.scaling.as_ref().is_some_and(|scaling| scaling.hold.is_some())
    }

    /// Nothing could be started. If nothing else serves or starts, those who wait for it need not.
    pub(super) fn start_failed(&self, cause: &str) {
        let hopeful = |e: &Entry| !e.stopping && e.drain.is_none() && e.state() <= State::Ready;
        if self.may_sleep() && !self.entries().any(hopeful) {
            self.hold.fail(cause);
            self.queue.wake();
        }
    }

    pub fn outliers(&self) -> &Arc<Outliers> {
        &self.outliers
    }

    /// A backend may take requests that could not before.
    pub fn wake_queue(&self) {
        self.queue.wake();
    }

    /// In the order of their ids.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Those written in the file, in its order; of a name all that it stands for.
    pub fn fixed(&self) -> impl Iterator<Item = &Entry> {
        self.config.backends.iter().flat_map(|fixed| {
            let id = fixed.id.clone();
            let of = move |e: &&Entry| match &e.feed {
                None => e.source == Source::Fixed && e.id == id,
                Some(feed) => matches!(feed, Feed::Name(name) if *name == id),
            };
            // `ID` itself and every `ID@…` stand together, but not alone.
            let prefix = fixed.id.clone();
            let from = self.entries.range(fixed.id.clone()..).map(|(_, entry)| entry);
            from.take_while(move |e| e.id.starts_with(&*prefix)).filter(of)
        })
    }

    /// All the others, in the order of their ids; among them what was written in the file before
    /// and serves until its successors do.
    pub fn others(&self) -> impl Iterator<Item = &Entry> {
        let written = |e: &Entry| self.config.backends.iter().any(|fixed| fixed.id == e.id);
        self.entries.values().filter(move |e| match (&e.feed, e.source) {
            (Some(Feed::Name(id)), _) => {
                e.leaving && !self.config.backends.iter().any(|fixed| fixed.id == *id)
            }
            (_, Source::Fixed) => e.leaving && !written(e),
            _ => true,
        })
    }

    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    /// Time from a start to the first pass, p90 of the last starts.
    pub fn lead_time(&self) -> Option<Duration> {
        self.lead.p90()
    }

    /// Times from a start to the first pass, of all starts.
    pub fn starts(&self) -> &Merged {
        self.lead.all()
    }

    /// What workers see: the same `Arc` as long as nothing changed.
    pub fn view(&mut self) -> Arc<ServiceView> {
        let view = self.view.take().unwrap_or_else(|| Arc::new(self.new_view()));
        self.view = Some(view.clone());
        view
    }

    /// The next [`Pool::view`] is a new one although the members are the same, so that workers
    /// look at them again: they close idle connections to what drains.
    pub fn touch(&mut self) {
        self.view = None;
    }

    pub(super) fn has(&self, uid: u64) -> bool {
        self.entries.values().any(|e| e.backend.as_ref().is_some_and(|b| b.uid == uid))
    }

    pub(super) fn entry_of(&mut self, uid: u64) -> Option<&mut Entry> {
        self.entries.values_mut().find(|e| e.backend.as_ref().is_some_and(|b| b.uid == uid))
    }

    pub(super) fn configure(&mut self, config: Arc<config::Service>, now: Micros) -> Vec<Change> {
        self.view = None;
        self.config = config.clone();
        let numbers: BTreeSet<&str> =
            config.backends.iter().filter(|b| b.address().is_some()).map(|b| &*b.id).collect();
        let names: BTreeSet<&str> =
            config.backends.iter().filter(|b| b.address().is_none()).map(|b| &*b.id).collect();
        let kept = |e: &Entry| match &e.feed {
            Some(Feed::Name(id)) => names.contains(&**id),
            Some(Feed::Discovery) => config.discovery.is_some(),
            Some(Feed::Admin) => true,
            None => e.is_orchestrated() || numbers.contains(&*e.id),
        };
        let gone: Vec<_> =
            self.entries.values().filter(|e| !kept(e)).map(|e| e.id.clone()).collect();
        // They leave with the next snapshot. Until a worker has it they are as good as before: a
        // service whose backends are all replaced is at no moment without any. Where what
        // replaces them has yet to be found and checked, they stay until it is.
        let stays = self.entries.values().any(|e| kept(e) && !e.leaving && e.is_available());
        let found_later = config.discovery.is_some() || !names.is_empty();
        let mut changes = Vec::new();
        for id in gone {
            match self.entries.get_mut(&id) {
                Some(entry) if found_later && !stays && entry.is_available() => {
                    entry.leaving = true;
                }
                _ => changes.extend(self.forget(&id, None)),
            }
        }
        for fixed in &config.backends {
            if fixed.address().is_none() {
                self.configure_name(fixed, now);
                continue;
            }
            let new = || Entry::new(fixed.id.clone(), Source::Fixed, now);
            let entry = self.entries.entry(fixed.id.clone()).or_insert_with(new);
            entry.weight = fixed.weight;
            entry.backup = fixed.backup;
            entry.zone.clone_from(&fixed.zone);
            let left = std::mem::take(&mut entry.leaving);
            if left && entry.drain.is_some_and(|drain| drain.by == DrainedBy::Removed) {
                let back = self.undrain(&fixed.id, DrainedBy::Removed, now, false);
                changes.extend(back.unwrap_or_default());
            }
        }
        changes
    }

    pub(super) fn resolved(
        &mut self,
        id: &str,
        address: Address,
        uid: u64,
        workers: usize,
        now: Micros,
    ) -> Vec<Change> {
        let service = self.config.name.clone();
        let usual = self.usual_limit();
        let Some(fixed) = self.config.backends.iter().find(|b| *b.id == *id) else {
            return Vec::new();
        };
        let Some(entry) = self.entries.get_mut(id) else { return Vec::new() };
        if entry.address() == Some(&address) {
            return Vec::new();
        }
        let authority = match &address {
            Address::Tcp(numbers) => {
                http::HeaderValue::try_from(authority(&fixed.host, fixed.port))
                    .unwrap_or_else(|_| numeric(*numbers))
            }
            // A path is no host; nginx and curl say the same.
            Address::Unix(_) => http::HeaderValue::from_static("localhost"),
        };
        // Up until checks fail; an operator's drain goes on at the new address.
        let state = if entry.drain.is_some() { State::Draining } else { State::Ready };
        let backend = Backend::new(
            uid,
            service.clone(),
            entry.id.clone(),
            address,
            authority,
            Source::Fixed,
            state,
            workers,
        );
        let backend = Arc::new(backend.under(self.outliers.cap()).within(usual));
        let old = entry.backend.replace(backend.clone());
        entry.since = now;
        self.view = None;
        let mut changes = Vec::new();
        if let Some(old) = old {
            // As above, it stays good until workers have its successor.
            let id = old.id.clone();
            changes.push(Change::Gone { service, id, backend: Some(old), crash: None });
        }
        changes.push(Change::Joined { backend });
        changes
    }
}

impl Pool {
    /// What the others may have in flight while limits are learned. Until more is learned of one that joins, it may have
    /// as much: without a limit all that wait would go to it at once.
    pub(super) fn usual_limit(&self) -> limit::Terms {
        if self.admission.places() == 0 {
            return limit::Terms::default();
        }
        let backends = self.entries.values().filter_map(|entry| entry.backend.as_ref());
        let limits = backends.map(|backend| backend.limit.get()).filter(|terms| terms.most > 0);
        let mut limits: Vec<limit::Terms> = limits.collect();
        limits.sort_unstable_by_key(|terms| terms.most);
        limits.get(limits.len() / 2).copied().unwrap_or_default()
    }
}

/// `host` without the port where it is HTTP's own.
pub(super) fn authority(host: &str, port: u16) -> String {
    if port == 80 { host.to_owned() } else { format!("{host}:{port}") }
}

pub(super) fn numeric(address: SocketAddr) -> http::HeaderValue {
    http::HeaderValue::try_from(address.to_string()).expect("an address is plain ASCII")
}
