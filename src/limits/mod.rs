//! The limits that are asked for: who may use a route, how many requests at once, how many a time, how many bytes.
//!
//! A route without any of these has no [`Limits`], and pays one branch. One with some pays for what it has: an access
//! list is a binary search, concurrency an atomic add, a rate a look into a sharded map, whose shard is locked for
//! that long. All of it is decided from the head, before anything of a body is read.
//!
//! What follows capacity (queues, learned limits) is `upstream`'s.

pub mod bans;
pub mod concurrency;
mod fields;
mod key;
mod networks;
pub mod pace;
pub mod rate;
pub mod shared;
mod store;
mod strikes;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::clock::Clock;
use crate::config::types as config;
use crate::config::types::Redis;

use bans::Bans;
use concurrency::{InFlight, Place};
pub use fields::Fields;
use fields::Standing;
use key::Key;
use networks::Networks;
use rate::{Limit, Over, Taken};
use shared::Question;
use strikes::Strikes;

/// What one route holds its requests to.
#[derive(Debug)]
pub struct Limits {
    /// The route's name.
    route: Arc<str>,
    /// Where the shared ones are counted.
    redis: Option<Arc<Redis>>,
    /// `None` = everybody.
    allow: Option<Networks>,
    deny: Networks,
    concurrency: Option<(u32, Arc<InFlight>)>,
    rates: Box<[Rate]>,
    /// Of the rates that are enforced; `None`: there are none.
    policy: Option<HeaderValue>,
}

/// One of the rates. What it has counted lives through reloads; how it is enforced may change.
#[derive(Debug)]
pub struct Rate {
    pub limit: Arc<Limit>,
    pub dry_run: bool,
    ban: Option<Ban>,
    /// It is counted together with others.
    shared: bool,
}

/// What becomes of an address that is refused again and again.
#[derive(Debug)]
struct Ban {
    after: u32,
    lasts: Duration,
    strikes: Arc<Strikes>,
}

/// A request, as far as limits look at it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub headers: &'a HeaderMap,
    /// Whom it is from, behind trusted proxies.
    pub client: IpAddr,
    /// Who is never banned.
    pub trusted: &'a [IpNet],
    pub bans: &'a Bans,
}

/// Why a request is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// By `[route.access]`.
    Denied,
    /// The route has `max` requests in flight.
    Full { max: u32 },
    /// By this limit, of those it is over the one with the longest wait.
    Limited {
        limit: Arc<str>,
        wait: Duration,
        /// Its client is banned from now on.
        banned: bool,
    },
}

/// What is to be done with a request.
#[derive(Debug)]
pub struct Verdict {
    /// The place that it holds to its end, if places are limited.
    pub result: Result<Option<Place>, Refused>,
    /// For the answer, whatever it will be.
    pub fields: Option<Box<Fields>>,
    /// It is not decided yet: others have to be asked, and then [`Limits::settle`].
    pub asking: Option<Box<Asking>>,
}

/// A request that is within all limits that are counted here, and waits for the others.
#[derive(Debug)]
pub struct Asking {
    pub redis: Arc<Redis>,
    pub questions: Vec<Question>,
    place: Option<Place>,
    said: Said,
    /// The shared rates, by index, and the keys to count by if nobody answers.
    keys: SmallVec<[(usize, Key); 2]>,
}

/// What each rate said, by its index.
type Said = SmallVec<[(usize, Result<Taken, Over>); 4]>;

impl Limits {
    /// Of a route; `None`: it has none. What `old`, the same route's of before, has counted is kept where it counts
    /// the same.
    pub fn new(
        route: &config::Route,
        old: Option<&Self>,
        clock: &Clock,
        redis: Option<&Arc<Redis>>,
    ) -> Option<Arc<Self>> {
        let (access, rates) = (&route.access, &route.rate_limits);
        if *access == config::Access::default()
            && rates.is_empty()
            && route.concurrency_limit.is_none()
        {
            return None;
        }
        let in_flight = || {
            let kept = old.and_then(|old| old.concurrency.as_ref());
            kept.map(|(_, in_flight)| in_flight.clone()).unwrap_or_default()
        };
        let rate = |config: &config::RateLimit| {
            let mut kept = old.iter().flat_map(|old| &*old.rates).map(|rate| &rate.limit);
            let limit = match kept.find(|limit| limit.counts_as(config)) {
                Some(kept) => kept.clone(),
                None => Arc::new(Limit::new(config, clock)),
            };
            let ban = config.ban_after.filter(|_| !config.dry_run);
            let ban = ban.map(|after| {
                let strikes = limit.strikes().clone();
                Ban { after, lasts: config.ban_for, strikes }
            });
            // What refuses nobody needs not be asked about: all or nothing is taken there.
            let shared = config.shared && !config.dry_run && redis.is_some();
            Rate { limit, dry_run: config.dry_run, ban, shared }
        };
        let mut enforced = rates.iter().filter(|rate| !rate.dry_run).peekable();
        Some(Arc::new(Self {
            route: route.name.clone(),
            redis: redis.cloned(),
            allow: access.allow.as_deref().map(Networks::new),
            deny: Networks::new(&access.deny),
            concurrency: route.concurrency_limit.map(|max| (max, in_flight())),
            policy: enforced.peek().is_some().then(|| fields::policy(enforced)),
            rates: rates.iter().map(rate).collect(),
        }))
    }

    /// Decides about a request by its head. A refused one takes nothing from any limit.
    pub fn admit(&self, asked: &Asked<'_>) -> Verdict {
        let refused = |refused| Verdict { result: Err(refused), fields: None, asking: None };
        if !self.may_enter(asked.client) {
            return refused(Refused::Denied);
        }
        let place = match &self.concurrency {
            None => None,
            Some((max, in_flight)) => match in_flight.enter(*max) {
                None => return refused(Refused::Full { max: *max }),
                place => place,
            },
        };
        if self.rates.is_empty() {
            return Verdict { result: Ok(place), fields: None, asking: None };
        }
        let Asked { headers, client, .. } = *asked;
        let (mut said, mut keys) = (Said::new(), SmallVec::new());
        for (index, rate) in self.rates.iter().enumerate() {
            let key = rate.limit.key(headers, client);
            match rate.shared {
                true => keys.push((index, key)),
                false => said.push((index, rate.limit.take(key))),
            }
        }
        let is_over = || said.iter().any(|(i, result)| result.is_err() && !self.rates[*i].dry_run);
        match &self.redis {
            Some(redis) if !keys.is_empty() && !is_over() => {
                let question =
                    |(i, key): &(usize, Key)| self.rates[*i].limit.question(&self.route, *key);
                let questions = keys.iter().map(question).collect();
                let redis = redis.clone();
                let asking = Asking { redis, questions, place, said, keys };
                Verdict { result: Ok(None), fields: None, asking: Some(Box::new(asking)) }
            }
            _ => self.conclude(place, said, asked),
        }
    }

    /// Decides with what others said: a number for each question, or nothing. Then each counts for itself.
    pub fn settle(&self, asking: Asking, answer: Option<&[i64]>, asked: &Asked<'_>) -> Verdict {
        let Asking { place, mut said, keys, .. } = asking;
        for (at, (index, key)) in keys.into_iter().enumerate() {
            let limit = &self.rates[index].limit;
            let told = answer.and_then(|answer| answer.get(at));
            said.push((index, told.map_or_else(|| limit.take(key), |told| limit.told(*told))));
        }
        said.sort_unstable_by_key(|(index, _)| *index);
        self.conclude(place, said, asked)
    }

    /// Whether this address is let in at all. What is denied is denied, also within what is allowed.
    fn may_enter(&self, client: IpAddr) -> bool {
        !self.deny.contains(client)
            && self.allow.as_ref().is_none_or(|allow| allow.contains(client))
    }

    /// One that refuses is enough; then the others get back what they gave.
    fn conclude(&self, place: Option<Place>, said: Said, asked: &Asked<'_>) -> Verdict {
        let said: SmallVec<[(&Rate, Result<Taken, Over>); 4]> =
            said.into_iter().map(|(index, result)| (&self.rates[index], result)).collect();
        let mut banned = None;
        for (rate, _) in said.iter().filter(|(_, result)| result.is_err()) {
            rate.limit.count(rate.dry_run);
            banned = banned.max(self.strike(rate, asked.client, asked.trusted, asked.bans));
        }
        let enforced = || said.iter().filter(|(rate, _)| !rate.dry_run);
        let over = enforced().filter_map(|(rate, result)| Some((rate, result.as_ref().err()?)));
        let strictest = over.max_by_key(|(_, over)| over.wait);
        if strictest.is_some() {
            for (rate, result) in &said {
                if let Ok(taken) = result {
                    rate.limit.give_back(taken);
                }
            }
        }
        let given_back = u32::from(strictest.is_some());
        let fields = self.policy.as_ref().map(|policy| {
            let standings = enforced().map(|(rate, result)| {
                let name = &**rate.limit.name();
                match result {
                    Ok(taken) => {
                        let remaining = taken.remaining + given_back;
                        Standing { name, remaining, reset: rate.limit.full_in(remaining) }
                    }
                    Err(over) => Standing { name, remaining: 0, reset: over.wait },
                }
            });
            Box::new(Fields::new(policy, standings))
        });
        let refused = strictest.map(|(rate, over)| {
            let (limit, banned_for) = (rate.limit.name().clone(), banned.unwrap_or_default());
            Refused::Limited { limit, wait: over.wait.max(banned_for), banned: banned.is_some() }
        });
        Verdict { result: refused.map_or(Ok(place), Err), fields, asking: None }
    }

    /// The fewest refusals within a minute that are a ban here.
    pub fn ban_after(&self) -> Option<u32> {
        self.soonest().map(|(after, _)| after)
    }

    fn soonest(&self) -> Option<(u32, &Rate)> {
        let after = self.rates.iter().filter_map(|rate| Some((rate.ban.as_ref()?.after, rate)));
        after.min_by_key(|(after, _)| *after)
    }

    /// A client was ended for a flood: as good as a refusal by the limit that bans soonest. Whether it is banned now.
    pub fn offend(&self, client: IpAddr, trusted: &[IpNet], bans: &Bans) -> bool {
        let banned = |(_, rate)| self.strike(rate, client, trusted, bans);
        self.soonest().and_then(banned).is_some()
    }

    /// One more refusal; too many within a minute are a ban, of that length.
    fn strike(
        &self,
        rate: &Rate,
        client: IpAddr,
        trusted: &[IpNet],
        bans: &Bans,
    ) -> Option<Duration> {
        let ban = rate.ban.as_ref()?;
        let is_welcome = trusted.iter().any(|network| network.contains(&client))
            || self.allow.as_ref().is_some_and(|allow| allow.contains(client));
        if is_welcome {
            return None;
        }
        let (network, now) = (rate.limit.network(client), rate.limit.now());
        let banned = ban.strikes.add(network, ban.after, now)
            && bans.begin(network, now, ban.lasts, (&self.route, rate.limit.name()));
        banned.then_some(ban.lasts)
    }

    /// The rates, for whoever shows their counts.
    pub fn rates(&self) -> &[Rate] {
        &self.rates
    }

    /// Requests that came while there were as many in flight as there may be.
    pub fn found_full(&self) -> u64 {
        self.concurrency.as_ref().map_or(0, |(_, in_flight)| in_flight.found_full())
    }

    /// Requests in flight, where they are limited.
    pub fn in_flight(&self) -> Option<u32> {
        self.concurrency.as_ref().map(|(_, in_flight)| in_flight.now())
    }
}
