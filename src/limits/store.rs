//! The states of one limit, by key: a sharded map with a bound.
//!
//! governor does the arithmetic, but its own stores grow with every key that is ever seen. Here the number of keys
//! has a bound, over which new ones share one state, and keys that are as good as new are dropped from time to
//! time, by the control plane.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use governor::nanos::Nanos;
use governor::state::StateStore;

use super::key::Key;

/// Keys in one shard, about: a shard is locked for as long as it takes to look at all of them.
const SHARD: usize = 4096;
const SHARDS: (usize, usize) = (16, 1024);

/// See the module. A state is governor's: the time at which the next request would come if they came evenly, in
/// nanoseconds since the limit was made.
#[derive(Debug)]
pub struct Store {
    shards: Box<[Shard]>,
    /// Chooses the shard; the maps hash by themselves.
    hasher: RandomState,
    keys: AtomicUsize,
    max_keys: usize,
    /// Of all keys that found the store full. 0 = none has yet.
    overflow: AtomicU64,
    overflowed: AtomicU64,
}

type States = HashMap<Key, u64, RandomState>;

/// On a cache line of its own: neighbours are locked by other workers.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(Mutex<States>);

impl Store {
    /// `max_keys`: 1 or more.
    pub fn new(max_keys: usize) -> Self {
        let shards = (max_keys / SHARD).next_power_of_two().clamp(SHARDS.0, SHARDS.1);
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            hasher: RandomState::default(),
            keys: AtomicUsize::new(0),
            max_keys,
            overflow: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        }
    }

    /// Keys with a state of their own.
    pub fn keys(&self) -> usize {
        self.keys.load(Relaxed)
    }

    /// Requests that were counted in the shared state.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }

    /// Takes the last `by` nanoseconds that were put on a key's state off again.
    pub fn give_back(&self, key: &Key, by: u64) {
        if let Some(state) = self.shard(key).get_mut(key) {
            *state = state.saturating_sub(by);
            return;
        }
        let less = |state: u64| Some(state.saturating_sub(by));
        // Always `Ok`, as there is always a value.
        let _ = self.overflow.fetch_update(Relaxed, Relaxed, less);
    }

    /// Drops every key whose state is not after `now`: it is as good as a new one. The memory of many is given
    /// back, too.
    pub fn sweep(&self, now: u64) {
        if self.keys() == 0 {
            return;
        }
        for shard in &self.shards {
            let mut states = shard.lock();
            let before = states.len();
            states.retain(|_, state| *state > now);
            self.keys.fetch_sub(before - states.len(), Relaxed);
            if states.len() < states.capacity() / 8 {
                states.shrink_to_fit();
            }
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, States> {
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, key);
        self.shards[hash as usize % self.shards.len()].lock()
    }

    /// Takes a place for one more key, if there is one.
    fn claim(&self) -> bool {
        if self.keys.fetch_add(1, Relaxed) < self.max_keys {
            return true;
        }
        self.keys.fetch_sub(1, Relaxed);
        false
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, States> {
        // Nothing is left half done under it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for Store {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut states = self.shard(key);
        if let Some(state) = states.get_mut(key) {
            let (outcome, next) = f(Some(Nanos::from(*state)))?;
            *state = next.as_u64();
            return Ok(outcome);
        }
        if self.claim() {
            let result = f(None);
            match result {
                Ok((outcome, next)) => {
                    states.insert(*key, next.as_u64());
                    return Ok(outcome);
                }
                Err(refused) => {
                    self.keys.fetch_sub(1, Relaxed);
                    return Err(refused);
                }
            }
        }
        drop(states);
        self.overflowed.fetch_add(1, Relaxed);
        let mut before = self.overflow.load(Relaxed);
        loop {
            let (outcome, next) = f(Some(before).filter(|state| *state > 0).map(Nanos::from))?;
            let swapped =
                self.overflow.compare_exchange_weak(before, next.as_u64(), Relaxed, Relaxed);
            match swapped {
                Ok(_) => return Ok(outcome),
                Err(now) => before = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts `by` on a key's state.
    fn put(store: &Store, key: u64, by: u64) {
        let _ = store.measure_and_replace::<_, _, ()>(&Key([0, key]), |state| {
            Ok(((), Nanos::from(state.map_or(0, Nanos::as_u64) + by)))
        });
    }

    #[test]
    fn new_keys_share_a_state_once_it_is_full_until_old_ones_are_dropped() {
        let store = Store::new(3);
        for key in 1..=5 {
            put(&store, key, key * 10);
        }
        assert_eq!((store.keys(), store.overflowed()), (3, 2));
        assert_eq!(store.overflow.load(Relaxed), 90, "4 and 5 together");
        put(&store, 1, 10);
        assert_eq!(store.keys(), 3, "one that is there stays");
        store.sweep(20);
        assert_eq!(store.keys(), 1, "two are as good as new");
        put(&store, 5, 7);
        assert_eq!((store.keys(), store.overflowed()), (2, 2));
    }

    #[test]
    fn what_is_given_back_is_as_if_it_had_not_been_taken() {
        let store = Store::new(1);
        put(&store, 1, 10);
        put(&store, 1, 10);
        store.give_back(&Key([0, 1]), 10);
        put(&store, 2, 30);
        store.give_back(&Key([0, 2]), 30);
        assert_eq!(store.overflow.load(Relaxed), 0);
        store.sweep(9);
        assert_eq!(store.keys(), 1);
        store.sweep(10);
        assert_eq!(store.keys(), 0);
    }

    #[test]
    fn memory_follows_what_is_in_it() {
        let store = Store::new(100_000);
        for key in 0..200_000 {
            put(&store, key, 1 + key % 2);
        }
        assert_eq!((store.keys(), store.overflowed()), (100_000, 100_000));
        let room = || store.shards.iter().map(|shard| shard.lock().capacity()).sum::<usize>();
        assert!(room() <= 230_000, "{}", room());
        store.sweep(2);
        assert_eq!((store.keys(), room()), (0, 0));
    }
}
