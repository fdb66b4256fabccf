//! How much each backend of a service can take, learned from what it did: the limits that follow capacity.
//!
//! Nothing is limited until there is proof of an overload: requests take twice as long as in calm and wait longer at
//! the backends than they may in our own queue, and more and more are under way. Then each backend's limit is its throughput times its time in calm (Little 1961; the knee of
//! Kleinrock 1979, the bandwidth-delay product of BBR), with a little room on top. From there trials decide (`climb`):
//! a larger limit stays if it brings throughput, a smaller one if it costs none. So a limit that was set for a wrong
//! reason (requests of another kind, which take long without any overload) grows away within seconds, and a time in
//! calm that is not known any more does no harm. After a minute without an overload nothing is limited again.
//!
//! From the same numbers follows what the service as a whole is to admit ([`Limits::rate`]).
//!
//! Pure: counts of a tick in, limits out. Who counts is `upstream::limit`'s, who asks `control`'s.

mod backend;
mod climb;
mod cold;
mod doubt;
mod group;
#[cfg(test)]
mod tests;
pub mod throttle;

use std::collections::{HashMap, HashSet};

use backend::{Backend, Shows};
use climb::{Climb, Takes};
use cold::Cold;
use doubt::{Alone, Doubt, Settled};
use group::{Group, Totals};

/// What one tick saw of one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    pub uid: u64,
    /// Requests that it answered well, and the seconds that they took together, to the end of their bodies.
    pub done: u64,
    pub time: f64,
    /// Those among them that found at most [`Limit::low`] at the backend.
    pub low: u64,
    pub low_time: f64,
    /// Of such, those that wait for the head of their answer now.
    pub low_open: u32,
    /// Requests sent to it, and those among them that found its limit nearly reached.
    pub picks: u64,
    pub near: u64,
    /// Now, upgraded connections among them.
    pub in_flight: u32,
    pub tunnels: u32,
    /// Share of its weight that slow start leaves it; 0: it takes no requests.
    pub ramp: f64,
}

/// What a request takes in calm at one backend, and how many answers say so: what can be passed on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calm {
    pub seconds: f64,
    pub known: f64,
}

/// What follows for one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limit {
    /// Most requests in flight; 0: no limit.
    pub most: u32,
    /// Who finds no more than this surely waits for nobody.
    pub low: u32,
}

/// What follows for the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// In the order of what was seen.
    pub of: Vec<Limit>,
    /// Requests a second to be admitted; infinite: as many as come.
    pub rate: f64,
    /// What those that take requests can answer, in requests a second; `None`: not known.
    pub capacity: Option<f64>,
}

/// Admitted above what was measured, so that growth is seen, and that the queue is seldom empty when a place is free.
const ROOM: f64 = 1.15;
/// In an overload requests take so much longer than in calm, and so many more are under way.
const OVER: f64 = 2.0;
/// Requests without company that take this share of what all take are a reason to doubt it, if they are not older than
/// so many seconds, or so many times what a request takes.
const ALONE: f64 = 0.8;
const RECENT: f64 = 5.0;
const RECENT_REQUESTS: f64 = 3.0;
/// Backends that answer less than this share of what they answered in calm are slower, which an overload alone does not
/// make them.
const SLOWER: f64 = 0.8;
/// So many answers say how many there are a second.
const RECENT_ANSWERS: f64 = 100.0;
/// When requests were found to take longer, what they take is learned anew for so many seconds.
const SETTLES: f64 = 15.0;
/// Unless so many times as many are under way meanwhile.
const MANY: f64 = 8.0;
/// So long is waited for either to pass, in seconds.
const DOUBT: f64 = 10.0;
const DOUBT_SLOWER: f64 = 30.0;
/// Share of picks that find a limit nearly reached when it binds, of at least so many.
const BINDS: f64 = 0.2;
const PICKS: u64 = 20;
/// Without an overload for so long nothing is limited, in seconds.
const CALM: f64 = 60.0;
/// Share of a difference that the throughput under a binding limit moves by.
const LEARN: f64 = 0.3;

/// What the rate is multiplied with in a second, and the most that becomes of it.
const FOLLOW: f64 = 1.2;
const MOST_SURPLUS: f64 = 4.0;
/// Under a limit requests should take little longer than in calm; so many times as long is a reason to try more at once.
const DOUBTFUL: f64 = 3.0;
/// So many times as long as limits above the knee make them is longer than these explain.
const LONG: f64 = 1.3;
/// Standard errors that what requests take in calm may be above what is known of it.
const SIGMAS: f64 = 3.0;

/// Learns the limits of one service.
#[derive(Debug, Default)]
pub struct Learner {
    backends: HashMap<u64, Backend>,
    group: Group,
    /// Some: it is limited.
    climb: Option<Climb>,
    /// What the rate is multiplied with, at least 1.
    surplus: f64,
    /// Seconds, and how many, of the last that had no company at their backends, and how long ago that was.
    alone: Alone,
    /// It looks like an overload.
    doubt: Option<Doubt>,
    /// Seconds for which what requests take is learned anew.
    settles: f64,
    settled: Settled,
    cold: Cold,
    /// Answers a second of each backend in calm, and how many there were.
    calm_each: f64,
    calm_answers: f64,
    /// And lately.
    recent_each: f64,
    /// Sum of the limits as they are.
    places: f64,
    /// Seconds since a limit bound last.
    calm: f64,
}

impl Limits {
    /// Nothing is limited.
    pub fn none() -> Self {
        Self { of: Vec::new(), rate: f64::INFINITY, capacity: None }
    }
}

impl Learner {
    /// Takes in one tick of `span` seconds. `refused`: requests waited for a place, or were shed.
    /// `bearable`: seconds that one may wait.
    pub fn tick(&mut self, seen: &[Seen], span: f64, refused: bool, bearable: f64) -> Limits {
        for one in seen {
            self.backends.entry(one.uid).or_default().add(one, span);
        }
        if self.backends.len() > seen.len() {
            let live: HashSet<u64> = seen.iter().map(|one| one.uid).collect();
            self.backends.retain(|uid, _| live.contains(uid));
        }
        self.group.add(seen, span, refused);
        self.follow_rate(seen, refused, span);
        if self.group.is_whole(self.climb.is_some()) {
            self.conclude(bearable);
        }
        self.limits(seen)
    }

    /// Whether anything is limited.
    pub fn is_limited(&self) -> bool {
        self.climb.is_some()
    }

    fn conclude(&mut self, bearable: f64) {
        let totals = self.group.take();
        self.alone.look(&totals, self.doubt.is_some());
        let limited = self.climb.is_some();
        // While it is calm, what requests take is what they take in calm.
        let usual = self.usual();
        self.settles = (self.settles - totals.span).max(0.0);
        let settles = self.settles > 0.0;
        let calm = !limited
            && (settles || usual.is_none_or(|usual| totals.mean() <= backend::CALM * usual));
        let high = self.is_high(&totals, bearable);
        let cold = self.cold.look(&totals, limited, bearable);
        let after_all = !limited && self.was_overload(&totals);
        let each = totals.throughput() / totals.serving.max(1e-9);
        let share = (totals.done as f64 / RECENT_ANSWERS).min(1.0);
        let share = if self.recent_each == 0.0 { 1.0 } else { share };
        self.recent_each += share * (each - self.recent_each);
        if calm {
            let share = (totals.done as f64 / self.calm_answers.max(1.0)).min(1.0);
            let share = share.max((totals.span / backend::SLOWLY).min(1.0));
            self.calm_answers += totals.done as f64;
            self.calm_each += share * (each - self.calm_each);
        }
        let shows = match (settles, limited || high, calm) {
            (true, ..) => Shows::All,
            (_, true, _) => Shows::Nothing,
            (_, _, true) => Shows::Calm,
            _ => Shows::Little,
        };
        for backend in self.backends.values_mut() {
            backend.conclude(shows);
        }
        match &mut self.climb {
            None if settles && !after_all => {}
            None if after_all => {
                self.settles = 0.0;
                self.backends.values_mut().for_each(Backend::took_no_longer);
                self.limit(&totals);
            }
            None if cold.is_some() => {
                self.backends.values_mut().for_each(|backend| backend.usual = cold);
                self.limit(&totals);
            }
            None => self.look_for_overload(&totals, high),
            Some(_) => self.adjust(&totals),
        }
        self.backends.values_mut().for_each(Backend::forget_group);
    }

    fn look_for_overload(&mut self, totals: &Totals, high: bool) {
        // Of this group alone a standard error less, as counts vary by their roots.
        let noise = 1.0 / (totals.done.max(1) as f64).sqrt();
        let each = totals.throughput() / totals.serving.max(1e-9);
        let slower = self.calm_answers >= RECENT_ANSWERS
            && (self.recent_each < SLOWER * self.calm_each
                || each < (SLOWER - noise) * self.calm_each);
        let doubt = self.doubt.take();
        // It answered less for a while and now as much as before: requests take longer, without any overload.
        let recovered = doubt.as_ref().is_some_and(|doubt| doubt.slowed) && !slower;
        if recovered {
            self.requests_take_longer(totals);
        }
        if recovered || !high || !totals.grew() && !slower {
            return;
        }
        let mut doubt = doubt.unwrap_or_default();
        doubt.slowed |= slower;
        let lasted = doubt.seconds;
        doubt.seconds += totals.span;
        // Those who had nobody to wait for tell, if they take as long, that it is the requests, or what the backends
        // themselves wait for. Some of them may still be under way.
        let longest = if slower { DOUBT_SLOWER } else { DOUBT };
        if (totals.low_open > 0 || slower) && lasted < longest.max(RECENT_REQUESTS * totals.mean())
        {
            self.doubt = Some(doubt);
            return;
        }
        if self.alone.age <= RECENT.max(RECENT_REQUESTS * totals.mean())
            && self.alone.at_least() >= ALONE * totals.mean()
        {
            self.requests_take_longer(totals);
            return;
        }
        self.limit(totals);
    }

    /// There is an overload.
    fn limit(&mut self, totals: &Totals) {
        let Some(usual) = self.usual() else { return };
        let each = totals.throughput() / totals.serving.max(1e-9);
        for backend in self.backends.values_mut() {
            backend.start(usual, each);
        }
        self.calm = 0.0;
        self.climb = Some(Climb::default());
    }

    fn requests_take_longer(&mut self, totals: &Totals) {
        self.backends.values_mut().for_each(Backend::takes_longer);
        self.settles = SETTLES;
        self.settled = Settled { in_flight: totals.in_flight, each: self.calm_each };
        (self.calm_each, self.calm_answers) = (0.0, 0.0);
    }

    /// Requests were taken for slower ones. But many times as many are under way since, more and more, and the backends
    /// answer as much as in calm: it was an overload after all.
    fn was_overload(&self, totals: &Totals) -> bool {
        self.settles > 0.0
            && totals.in_flight >= MANY * self.settled.in_flight
            && totals.grew()
            && self.recent_each >= self.settled.each
    }

    fn adjust(&mut self, totals: &Totals) {
        let (usual, peers) = (self.usual(), (self.median(|b| b.knee), self.median(|b| b.capacity)));
        let serving = self.backends.values().filter(|b| b.serves());
        let knees: f64 = serving.filter_map(|b| b.knee).sum();
        let Some(climb) = &mut self.climb else { return };
        if !totals.binds() {
            self.calm += totals.span;
            // With more nobody was kept back: that was too little.
            let step = climb.was_enough();
            for backend in self.backends.values_mut() {
                backend.was_not_bound(step);
            }
            if self.calm >= CALM {
                self.climb = None;
                self.backends.values_mut().for_each(Backend::free);
            }
            return;
        }
        self.calm = 0.0;
        let trial = climb.trial();
        // Whatever is above the knee waits.
        let expected = self.places / knees.max(1.0);
        let takes = match usual {
            Some(usual) if totals.mean() >= DOUBTFUL * usual => Takes::Doubtful,
            Some(usual) if totals.mean() >= LONG * expected * usual => Takes::Long,
            _ => Takes::Expected,
        };
        let step = climb.judge(totals, self.places, takes);
        for backend in self.backends.values_mut() {
            backend.was_bound(trial, step, totals.span, peers);
        }
    }

    /// What is shed while backends have places is shed for nothing: then more is admitted, until they have none.
    fn follow_rate(&mut self, seen: &[Seen], refused: bool, span: f64) {
        let step = FOLLOW.powf(span);
        let picks: u64 = seen.iter().map(|one| one.picks).sum();
        let near: u64 = seen.iter().map(|one| one.near).sum();
        let full = near as f64 >= BINDS * picks as f64;
        self.surplus = match (self.climb.is_some(), refused, full) {
            (false, ..) => 1.0,
            (true, true, false) => (self.surplus * step).min(MOST_SURPLUS),
            (true, ..) => (self.surplus / step).max(1.0),
        };
    }

    /// Seconds of a request in calm, over all backends.
    fn usual(&self) -> Option<f64> {
        let known = self.backends.values().filter_map(|b| Some((b.usual?, b.weight())));
        let (time, weight) =
            known.fold((0.0, 0.0), |(time, sum), (usual, w)| (time + usual * w, sum + w));
        (weight > 0.0).then(|| time / weight)
    }

    fn median(&self, of: fn(&Backend) -> Option<f64>) -> Option<f64> {
        let mut known: Vec<f64> = self.backends.values().filter_map(of).collect();
        known.sort_by(f64::total_cmp);
        known.get(known.len() / 2).copied()
    }

    /// The most that it may well be, as few answers say little.
    fn usual_at_most(&self) -> Option<f64> {
        let known = self.backends.values().map(|b| b.known).sum::<f64>();
        Some(self.usual()? * (1.0 + SIGMAS / known.max(1.0).sqrt()))
    }

    /// Requests take much longer than in calm, and many more are under way.
    fn is_high(&self, totals: &Totals, bearable: f64) -> bool {
        self.usual_at_most().is_some_and(|usual| {
            let serving = self.backends.values().filter(|b| b.serves()).count() as f64;
            let busy = totals.throughput() * usual;
            totals.mean() - usual >= ((OVER - 1.0) * usual).max(bearable)
                && totals.in_flight >= OVER * busy.max(serving)
        })
    }

    fn limits(&mut self, seen: &[Seen]) -> Limits {
        let (knee, each) = (self.median(|b| b.knee), self.median(|b| b.capacity));
        let scale = self.climb.as_ref().map(Climb::scale);
        let of = seen.iter().filter_map(|one| {
            let backend = self.backends.get(&one.uid)?;
            Some(Limit {
                most: scale.map_or(0, |scale| backend.most(scale, knee, one.tunnels)),
                low: backend.low(),
            })
        });
        let of: Vec<Limit> = of.collect();
        self.places = of.iter().map(|limit| f64::from(limit.most)).sum();
        let capacity = self.climb.as_ref().and(each).map(|each| {
            let backends = seen.iter().filter_map(|one| Some((one, self.backends.get(&one.uid)?)));
            backends.map(|(one, b)| one.ramp * b.capacity.unwrap_or(each)).sum::<f64>()
        });
        let room = ROOM * self.surplus * scale.unwrap_or(1.0).max(1.0);
        let rate = capacity.filter(|c| *c > 0.0).map_or(f64::INFINITY, |c| room * c);
        Limits { of, rate, capacity }
    }
}
