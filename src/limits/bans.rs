//! Who is not let in for a while, after a limit's `ban_after` refusals.
//!
//! One table for all workers, which only those look into who begin, end or list bans. Connections and requests ask what
//! was published of it (`Seen`): one load while nobody is banned, else a load and a look-up, never a lock.
//!
//! Whoever bans publishes, unless there are many bans or it was done a moment ago; what is left over the control plane
//! publishes, [`PERIOD`] later at most. Until then the limit that banned goes on refusing, and the connection that the
//! last refused request came on is ended without any look.

mod seen;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::clock::Micros;

use seen::Seen;

/// Bans at once; above it nobody is banned any more, but refused by the limits as before.
pub const MOST: usize = 100_000;
const SHARDS: usize = 16;

/// How often the control plane publishes what is new.
pub const PERIOD: Duration = Duration::from_millis(100);
/// With more bans than that only the control plane publishes: a copy of so many takes some 50 µs.
const SMALL: usize = 1000;
/// Between two copies that workers make, for each ban in the last one: so they cost a few percent of a CPU, whatever
/// bans.
const PAUSE: Micros = 1;

/// See the module.
#[derive(Debug, Default)]
pub struct Bans {
    count: AtomicUsize,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// There is something that is not published yet.
    is_changed: AtomicBool,
    /// Held by who publishes; when that may be done again without the control plane.
    publishing: Mutex<Micros>,
    /// Bans in what is published.
    in_seen: AtomicUsize,
    seen: ArcSwap<Seen>,
    begun: AtomicU64,
    refused: AtomicU64,
}

type Shard = HashMap<IpNet, Ban, RandomState>;

/// One network that is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    pub since: Micros,
    pub until: Micros,
    /// What it was refused by.
    pub route: Arc<str>,
    pub limit: Arc<str>,
    /// Whether people were told that it began.
    told: bool,
}

impl Ban {
    /// One that people know of.
    pub fn known(since: Micros, until: Micros, (route, limit): (Arc<str>, Arc<str>)) -> Self {
        Self { since, until, route, limit, told: true }
    }
}

/// What happened to bans since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    pub begun: Few,
    /// Their time is over.
    pub ended: Few,
}

/// Some of so many bans.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Few {
    pub first: Vec<(IpNet, Ban)>,
    pub all: usize,
}

impl Bans {
    /// How long this address is still not let in; `None`: it is.
    #[inline]
    pub fn left(&self, address: IpAddr, now: impl FnOnce() -> Micros) -> Option<Duration> {
        if self.in_seen.load(Relaxed) == 0 {
            return None;
        }
        self.find(address, now())
    }

    #[cold]
    fn find(&self, address: IpAddr, now: Micros) -> Option<Duration> {
        let until = self.seen.load().until(address.to_canonical())?;
        until.checked_sub(now).filter(|left| *left > 0).map(Duration::from_micros)
    }

    /// A request was refused for it.
    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Begins a ban, or makes the one that is there last longer. `false`: the table is full.
    pub fn begin(
        &self,
        network: IpNet,
        now: Micros,
        lasts: Duration,
        by: (&Arc<str>, &Arc<str>),
    ) -> bool {
        let until = now.saturating_add(lasts.as_micros() as Micros);
        let mut shard = self.shard(&network);
        if let Some(ban) = shard.get_mut(&network) {
            ban.until = ban.until.max(until);
        } else {
            if self.count.fetch_add(1, Relaxed) >= MOST {
                self.count.fetch_sub(1, Relaxed);
                return false;
            }
            let (route, limit) = (by.0.clone(), by.1.clone());
            shard.insert(network, Ban { since: now, until, route, limit, told: false });
            self.begun.fetch_add(1, Relaxed);
        }
        drop(shard);
        self.is_changed.store(true, Release);
        if self.active() <= SMALL {
            self.publish_if_due(now);
        }
        true
    }

    /// Goes on with a ban that was on in the process before this one. Held once it is published.
    pub fn resume(&self, network: IpNet, ban: Ban) {
        if self.active() < MOST && self.shard(&network).insert(network, ban).is_none() {
            self.count.fetch_add(1, Relaxed);
        }
        self.is_changed.store(true, Release);
    }

    /// Ends the bans of a network, or of every network that an address is in; those that were there.
    pub fn lift(&self, network: IpNet) -> Vec<(IpNet, Ban)> {
        let whole = network.prefix_len() == network.max_prefix_len();
        let matches = |banned: &IpNet| match whole {
            true => banned.contains(&network.addr()),
            false => *banned == network.trunc(),
        };
        let mut lifted = Vec::new();
        for shard in &self.shards {
            lifted.extend(lock(shard).extract_if(|banned, _| matches(banned)));
        }
        self.count.fetch_sub(lifted.len(), Relaxed);
        self.publish();
        lifted
    }

    /// What began since the last look, and what ended by itself, which is forgotten: the first `most` of each.
    pub fn news(&self, now: Micros, most: usize) -> News {
        let mut news = News::default();
        if self.active() == 0 {
            return news;
        }
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.retain(|network, ban| {
                if !std::mem::replace(&mut ban.told, true) {
                    news.begun.add(network, ban, most);
                }
                let lasts = ban.until > now;
                if !lasts {
                    news.ended.add(network, ban, most);
                }
                lasts
            });
            if shard.len() < shard.capacity() / 8 {
                shard.shrink_to_fit();
            }
        }
        if news.ended.all > 0 {
            self.count.fetch_sub(news.ended.all, Relaxed);
            self.publish();
        }
        news
    }

    /// Publishes what nobody has yet. Control plane, every [`PERIOD`].
    pub fn publish_rest(&self) {
        if self.is_changed.load(Acquire) {
            self.publish();
        }
    }

    /// All of them, by network.
    pub fn all(&self) -> Vec<(IpNet, Ban)> {
        let mut all: Vec<_> = Vec::new();
        for shard in &self.shards {
            all.extend(lock(shard).iter().map(|(network, ban)| (*network, ban.clone())));
        }
        all.sort_unstable_by_key(|(network, _)| *network);
        all
    }

    /// Bans that are on now.
    pub fn active(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Bans that ever began.
    pub fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// Requests that were refused for one.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn publish(&self) {
        self.copy(&mut lock(&self.publishing), None);
    }

    /// Publishes, unless somebody is at it or it was done a moment ago.
    fn publish_if_due(&self, now: Micros) {
        let mut publishing = match self.publishing.try_lock() {
            Ok(publishing) => publishing,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if now >= *publishing {
            self.copy(&mut publishing, Some(now));
        }
    }

    fn copy(&self, publishing: &mut Micros, now: Option<Micros>) {
        // Before the look: what changes during it is looked at again.
        self.is_changed.swap(false, AcqRel);
        let mut seen = Seen::with_capacity(self.active());
        for shard in &self.shards {
            lock(shard).iter().for_each(|(network, ban)| seen.insert(*network, ban.until));
        }
        let many = seen.len();
        self.seen.store(Arc::new(seen));
        self.in_seen.store(many, Relaxed);
        if let Some(now) = now {
            *publishing = now + many as Micros * PAUSE;
        }
    }

    fn shard(&self, network: &IpNet) -> MutexGuard<'_, Shard> {
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, network);
        lock(&self.shards[hash as usize % SHARDS])
    }
}

impl Few {
    fn add(&mut self, network: &IpNet, ban: &Ban, most: usize) {
        self.all += 1;
        if self.first.len() < most {
            self.first.push((*network, ban.clone()));
        }
    }
}

/// Nothing is left half done under one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
