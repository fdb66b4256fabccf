//! How often each address was refused within a minute, for `ban_after`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::clock::Micros;

const MINUTE: Micros = 60_000_000;
const SHARDS: usize = 16;

/// Refusals of one limit by network; a network's minute begins with its first refusal.
#[derive(Debug)]
pub struct Strikes {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    count: AtomicUsize,
    /// Networks that are counted at once; others are not counted.
    most: usize,
}

/// When its minute began, and refusals in it.
type Shard = HashMap<IpNet, (Micros, u32), RandomState>;

impl Strikes {
    pub fn new(most: usize) -> Self {
        Self {
            hasher: RandomState::default(),
            shards: Default::default(),
            count: AtomicUsize::new(0),
            most,
        }
    }

    /// One more; whether that makes `after` within a minute. Then it begins anew.
    pub fn add(&self, network: IpNet, after: u32, now: Micros) -> bool {
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, network);
        let mut shard = lock(&self.shards[hash as usize % SHARDS]);
        let strikes = match shard.get_mut(&network) {
            Some(strikes) => strikes,
            None if self.count.fetch_add(1, Relaxed) < self.most => {
                shard.entry(network).or_insert((now, 0))
            }
            None => {
                self.count.fetch_sub(1, Relaxed);
                return after <= 1;
            }
        };
        if now.saturating_sub(strikes.0) >= MINUTE {
            *strikes = (now, 0);
        }
        strikes.1 += 1;
        if strikes.1 < after {
            return false;
        }
        shard.remove(&network);
        self.count.fetch_sub(1, Relaxed);
        true
    }

    /// Forgets those whose minute is over.
    pub fn sweep(&self, now: Micros) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.len();
            shard.retain(|_, (since, _)| now.saturating_sub(*since) < MINUTE);
            self.count.fetch_sub(before - shard.len(), Relaxed);
            if shard.len() < shard.capacity() / 8 {
                shard.shrink_to_fit();
            }
        }
    }
}

/// Nothing is left half done under one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(n: u32) -> IpNet {
        IpNet::new(std::net::Ipv4Addr::from(n).into(), 32).expect("a prefix")
    }

    #[test]
    fn so_many_within_a_minute() {
        let strikes = Strikes::new(10);
        let add = |at| strikes.add(net(1), 3, at);
        assert_eq!([add(0), add(1), add(2), add(3)], [false, false, true, false]);
        assert_eq!([add(MINUTE + 3), add(MINUTE + 4), add(MINUTE + 5)], [false, false, true]);
        assert!(strikes.add(net(2), 1, 0));
    }

    #[test]
    fn it_is_bounded_and_forgets() {
        let strikes = Strikes::new(10);
        for n in 0..100 {
            assert!(!strikes.add(net(n), 2, u64::from(n)));
        }
        assert_eq!(strikes.count.load(Relaxed), 10);
        assert!(strikes.add(net(3), 2, 200), "those that are there go on");
        assert!(!strikes.add(net(50), 2, 200));
        strikes.sweep(MINUTE + 5);
        assert_eq!(strikes.count.load(Relaxed), 5, "four of the first, and 50");
        strikes.sweep(MINUTE + 200);
        assert_eq!(strikes.count.load(Relaxed), 0);
    }
}
