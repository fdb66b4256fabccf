//! Who is not let in for a while, after a limit's `ban_after` refusals.
//!
//! One table for all workers. While it is empty, which is nearly always, a connection or request pays one
//! load; else a look-up in a locked shard for each length of prefix that is in use, mostly one or two.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::clock::Micros;

/// Bans at once; above it nobody is banned any more, but refused by the limits as before.
const MOST: usize = 100_000;
const SHARDS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Bans {
    count: AtomicUsize,
    /// Lengths of prefixes that were ever banned, a bit each: IPv4's, then IPv6's from 0 to 128.
    v4: AtomicU64,
    v6: [AtomicU64; 3],
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
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

/// What happened to bans since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    pub begun: Vec<(IpNet, Ban)>,
    /// Their time is over.
    pub ended: Vec<(IpNet, Ban)>,
}

impl Bans {
    /// How long this address is still not let in; `None`: it is.
    #[inline]
    pub fn left(&self, address: IpAddr, now: impl FnOnce() -> Micros) -> Option<Duration> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        self.find(address, now())
    }

    #[cold]
    fn find(&self, address: IpAddr, now: Micros) -> Option<Duration> {
        let address = address.to_canonical();
        let longest = self.networks(address).filter_map(|network| {
            let until = self.shard(&network).get(&network)?.until;
            until.checked_sub(now).filter(|left| *left > 0)
        });
        longest.max().map(Duration::from_micros)
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
            return true;
        }
        if self.count.fetch_add(1, Relaxed) >= MOST {
            self.count.fetch_sub(1, Relaxed);
            return false;
        }
        let length = network.prefix_len();
        let lengths = match network {
            IpNet::V4(_) => &self.v4,
            IpNet::V6(_) => &self.v6[usize::from(length / 64)],
        };
        lengths.fetch_or(1 << (length % 64), Relaxed);
        let (route, limit) = (by.0.clone(), by.1.clone());
        shard.insert(network, Ban { since: now, until, route, limit, told: false });
        self.begun.fetch_add(1, Relaxed);
        true
    }

    /// Ends the bans of a network, or of every network that an address is in; those that were there.
    pub fn lift(&self, network: IpNet) -> Vec<(IpNet, Ban)> {
        let whole = network.prefix_len() == network.max_prefix_len();
        let networks: Vec<_> = match whole {
            true => self.networks(network.addr()).collect(),
            false => vec![network.trunc()],
        };
        let lifted = networks.into_iter().filter_map(|network| {
            let ban = self.shard(&network).remove(&network)?;
            self.count.fetch_sub(1, Relaxed);
            Some((network, ban))
        });
        lifted.collect()
    }

    /// What began since the last look, and what ended by itself, which is forgotten.
    pub fn news(&self, now: Micros) -> News {
        let mut news = News::default();
        if self.active() == 0 {
            return news;
        }
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.retain(|network, ban| {
                if !std::mem::replace(&mut ban.told, true) {
                    news.begun.push((*network, ban.clone()));
                }
                if ban.until > now {
                    return true;
                }
                news.ended.push((*network, ban.clone()));
                false
            });
        }
        self.count.fetch_sub(news.ended.len(), Relaxed);
        news
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

    /// Every network that could be banned and that the address is in.
    fn networks(&self, address: IpAddr) -> impl Iterator<Item = IpNet> + use<> {
        let words = match address {
            IpAddr::V4(_) => [self.v4.load(Relaxed), 0, 0],
            IpAddr::V6(_) => [0, 1, 2].map(|word: usize| self.v6[word].load(Relaxed)),
        };
        let lengths = (0..=128u8)
            .filter(move |length| words[usize::from(length / 64)] & 1 << (length % 64) != 0);
        lengths.filter_map(move |length| {
            IpNet::new(address, length).ok().map(|network| network.trunc())
        })
    }

    fn shard(&self, network: &IpNet) -> MutexGuard<'_, Shard> {
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, network);
        lock(&self.shards[hash as usize % SHARDS])
    }
}

/// Nothing is left half done under one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn ban(bans: &Bans, network: &str, now: Micros, seconds: u64) -> bool {
        let name: Arc<str> = "x".into();
        bans.begin(net(network), now, Duration::from_secs(seconds), (&name, &name))
    }

    fn left(bans: &Bans, address: &str, now: Micros) -> Option<u64> {
        bans.left(address.parse().expect("an address"), || now).map(|left| left.as_secs())
    }

    #[test]
    fn a_ban_is_for_its_network_and_its_time() {
        let bans = Bans::default();
        assert_eq!(left(&bans, "10.0.0.1", 0), None);
        assert!(ban(&bans, "10.0.0.0/24", 0, 10) && ban(&bans, "2001:db8::/64", 0, 20));
        assert_eq!(left(&bans, "10.0.0.77", 1_000_000), Some(9));
        assert_eq!(left(&bans, "::ffff:10.0.0.77", 1_000_000), Some(9));
        assert_eq!(left(&bans, "10.0.1.1", 0), None);
        assert_eq!(left(&bans, "2001:db8::7", 0), Some(20));
        assert_eq!(left(&bans, "2001:db8:0:1::7", 0), None);
        assert_eq!(left(&bans, "10.0.0.77", 10_000_000), None, "before anybody looked");
        ban(&bans, "10.0.0.77/32", 0, 30);
        assert_eq!(left(&bans, "10.0.0.77", 0), Some(30), "the longest");
    }

    #[test]
    fn beginnings_and_ends_are_told_once() {
        let bans = Bans::default();
        ban(&bans, "10.0.0.1/32", 0, 10);
        ban(&bans, "10.0.0.1/32", 5_000_000, 10);
        let news = bans.news(6_000_000);
        assert_eq!((news.begun.len(), news.ended.len()), (1, 0));
        assert_eq!(bans.news(14_000_000), News::default(), "it was made longer");
        let news = bans.news(15_000_000);
        assert_eq!((news.begun.len(), news.ended.len(), bans.active()), (0, 1, 0));
        assert_eq!(bans.begun(), 1);
    }

    #[test]
    fn a_ban_is_lifted_by_its_network_or_an_address_in_it() {
        let bans = Bans::default();
        ban(&bans, "10.0.0.0/24", 0, 10);
        ban(&bans, "10.0.0.9/32", 0, 10);
        ban(&bans, "10.1.0.0/16", 0, 10);
        assert_eq!(bans.all().len(), 3);
        assert_eq!(bans.lift(net("10.0.0.9/32")).len(), 2);
        assert_eq!(bans.lift(net("10.0.0.0/16")).len(), 0);
        assert_eq!(bans.lift(net("10.1.2.3/16")).len(), 1);
        assert_eq!((bans.active(), left(&bans, "10.0.0.9", 0)), (0, None));
    }

    #[test]
    fn the_table_is_bounded() {
        let bans = Bans::default();
        let name: Arc<str> = "x".into();
        let one = |n: u32| {
            let network = IpNet::new(std::net::Ipv4Addr::from(n).into(), 32).expect("a prefix");
            bans.begin(network, 0, Duration::from_secs(1), (&name, &name))
        };
        assert_eq!((0..MOST as u32 + 50).filter(|n| one(*n)).count(), MOST);
        assert_eq!(bans.active(), MOST);
        assert_eq!(bans.news(2_000_000).ended.len(), MOST);
        assert!(one(7));
    }
}
