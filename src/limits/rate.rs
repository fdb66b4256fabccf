//! One `[[route.rate_limit]]`: so many requests a time for each key, over all workers.
//!
//! The generic cell rate algorithm (ITU-T I.371, "virtual scheduling"), by governor: never more than
//! `burst + rate × t` in any time t.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::{Add, Deref};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use governor::clock::{Clock as Governors, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use http::HeaderMap;
use ipnet::IpNet;

use crate::clock::{Clock, Micros};
use crate::config::types as config;

use super::key::{self, Key};
use super::shared::Question;
use super::store::Store;
use super::strikes::Strikes;

/// Lives through reloads as long as it counts the same.
#[derive(Debug)]
pub struct Limit {
    /// As it was made; `dry_run` is asked of the latest configuration.
    config: config::RateLimit,
    limiter: RateLimiter<Key, Shared, Since, StateInformationMiddleware>,
    store: Arc<Store>,
    clock: Clock,
    /// When it was made.
    made: Micros,
    pub counts: Counts,
    /// Refusals by address, for bans.
    strikes: Arc<Strikes>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Counts {
    pub refused: AtomicU64,
    /// Would have been refused.
    pub dry_run: AtomicU64,
}

/// A request that a limit let through.
#[derive(Debug)]
pub struct Taken {
    /// `None`: it was taken elsewhere, and all or nothing there.
    key: Option<Key>,
    at: Micros,
    /// Requests that could follow at once.
    pub remaining: u32,
}

/// A request that is over a limit.
#[derive(Debug)]
pub struct Over {
    /// Until one would pass.
    pub wait: Duration,
}

impl Limit {
    pub fn new(config: &config::RateLimit, clock: &Clock) -> Self {
        let burst = NonZeroU32::new(config.burst).unwrap_or(NonZeroU32::MIN);
        // Rates are bounded, so that there is always time between two requests.
        let interval = config.rate.interval().max(Duration::from_nanos(1));
        let quota = Quota::with_period(interval)
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        let store = Arc::new(Store::new(config.max_keys));
        let made = clock.now();
        let since = Since { clock: clock.clone(), made };
        let limiter = RateLimiter::new(quota, Shared(store.clone()), since);
        let strikes = Arc::new(Strikes::new(config.max_keys));
        let (config, clock) = (config.clone(), clock.clone());
        Self { config, limiter, store, clock, made, counts: Counts::default(), strikes }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// Whether what it has counted is right for `new`, too.
    pub fn counts_as(&self, new: &config::RateLimit) -> bool {
        let old = &self.config;
        (&old.name, &old.key, old.rate, old.burst) == (&new.name, &new.key, new.rate, new.burst)
            && (old.ipv4_prefix, old.ipv6_prefix) == (new.ipv4_prefix, new.ipv6_prefix)
            && old.max_keys == new.max_keys
    }

    /// Whose request it is.
    pub(super) fn key(&self, headers: &HeaderMap, client: IpAddr) -> Key {
        Key::of(&self.config, headers, client)
    }

    /// What to ask those who count together.
    pub(super) fn question(&self, route: &str, key: Key) -> Question {
        let Key([high, low]) = key;
        Question {
            key: format!("tidegate:limit:{route}:{}:{high:016x}{low:016x}", self.config.name),
            each: self.config.rate.interval().as_nanos() as f64 / 1e3,
            burst: self.config.burst,
        }
    }

    /// What they said, in the words of [`Question`].
    pub(super) fn told(&self, said: i64) -> Result<Taken, Over> {
        match u32::try_from(said) {
            Ok(remaining) => Ok(Taken { key: None, at: self.clock.now(), remaining }),
            // -1 - µs
            Err(_) => {
                Err(Over { wait: Duration::from_micros(said.unsigned_abs().saturating_sub(1)) })
            }
        }
    }

    /// Counts a request, unless it is over the limit.
    pub fn take(&self, key: Key) -> Result<Taken, Over> {
        let at = self.clock.now();
        match self.limiter.check_key(&key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                Ok(Taken { key: Some(key), at, remaining })
            }
            Err(not_until) => {
                Err(Over { wait: not_until.wait_time_from(self.limiter.clock().now()) })
            }
        }
    }

    /// The request that was let through here was refused for something else: as if it had never come.
    ///
    /// Only soon after: within one interval no other request can have come after the time that was taken, so what
    /// is left is exactly what there would be. Later its part has grown back by itself.
    pub fn give_back(&self, taken: &Taken) {
        let Some(key) = &taken.key else { return };
        let interval = self.config.rate.interval();
        let passed = self.clock.now().saturating_sub(taken.at);
        if u128::from(passed) < interval.as_micros() {
            self.store.give_back(key, interval.as_nanos() as u64);
        }
    }

    /// Until all of the burst is there again.
    pub fn full_in(&self, remaining: u32) -> Duration {
        self.config.rate.interval() * self.config.burst.saturating_sub(remaining)
    }

    /// Forgets keys that are as good as new.
    pub fn sweep(&self) {
        // What governor calls the start may be a moment later: then states are that much smaller.
        let since = self.clock.now().saturating_sub(self.made);
        self.store.sweep(since.saturating_sub(SLACK) * 1000);
        self.strikes.sweep(self.clock.now());
    }

    pub(super) fn strikes(&self) -> &Arc<Strikes> {
        &self.strikes
    }

    /// What of an address counts as one client.
    pub(super) fn network(&self, client: IpAddr) -> IpNet {
        key::network(&self.config, client)
    }

    pub(super) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// Keys that are counted apart.
    pub fn keys(&self) -> usize {
        self.store.keys()
    }

    /// Requests whose keys found no place of their own.
    pub fn overflowed(&self) -> u64 {
        self.store.overflowed()
    }

    pub(super) fn count(&self, dry_run: bool) {
        let count = if dry_run { &self.counts.dry_run } else { &self.counts.refused };
        count.fetch_add(1, Relaxed);
    }
}

/// A key is kept this much longer than it has to be, µs.
const SLACK: Micros = 1_000_000;

/// A store that the limit looks into as well.
#[derive(Debug)]
struct Shared(Arc<Store>);

impl StateStore for Shared {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.deref().measure_and_replace(key, f)
    }
}

/// Our clock, for governor.
#[derive(Debug)]
struct Since {
    clock: Clock,
    made: Micros,
}

/// Nanoseconds since the limit was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(u64);

impl Governors for Since {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(self.clock.now().saturating_sub(self.made) * 1000)
    }
}

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, more: Nanos) -> Self {
        Self(self.0.saturating_add(more.as_u64()))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        Nanos::from(self.0.saturating_sub(earlier.0))
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.as_u64()).unwrap_or(self.0))
    }
}
