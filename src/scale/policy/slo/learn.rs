//! What a service's own traffic tells of how long a request takes without waiting.
//!
//! Every second is filed under how many requests each backend had. At the quietest of these levels
//! nobody waits: that is the service time. Until such a level is known well, the level at which
//! requests were fastest is a first idea of it, and never too short a one. What a backend gets done is
//! left to `pace`. Source of nothing but samples: no request pays.

use std::collections::VecDeque;

use crate::scale::{Learned, Sample};

use super::downstream::{Bound, Downstream};
use super::pace::{Alone, Pace, Second};

/// Levels: each whole number up to eight, then steps of an eighth.
const LEVELS: usize = 64;
/// Seconds and requests that a level must have to be believed.
const SECONDS: u32 = 10;
const REQUESTS: f64 = 100.0;
/// Means of seconds that a level keeps.
const MEANS: usize = 60;
/// A level with so many requests forgets half of them, so that a new version of the service counts.
const FORGET: f64 = 20_000.0;
/// Quantile of the seconds' means that is the service time: low, because whatever disturbs a second
/// makes it slower.
const LOW: f64 = 0.25;
/// Requests for a first idea of the service time.
const FIRST: f64 = 20.0;
/// p95 is the same up to this factor.
const ALIKE: f64 = 1.25;
/// Levels are compared with those this much below.
const APART: f64 = 1.25;
/// Without a quiet second: a level counts as quiet if one that much above is hardly slower.
const HARDLY: f64 = 1.1;
/// Seconds with a larger share of failures teach nothing: failing is fast.
const FAILURES: f64 = 0.05;
/// In seconds in which clients gave up a larger share, backends did more than what was answered.
const ABANDONED: f64 = 0.05;

#[derive(Debug)]
pub(super) struct Learner {
    levels: Vec<Level>,
    pace: Pace,
    downstream: Downstream,
    /// From before a restart, until the same is known anew: service time and its quantile, in seconds.
    before: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Default)]
struct Level {
    seconds: u32,
    requests: f64,
    /// Mean time of requests in the newest seconds.
    means: VecDeque<f32>,
    /// (seconds, how many), by length.
    durations: Vec<(f32, f32)>,
}

impl Default for Learner {
    fn default() -> Self {
        Self {
            levels: vec![Level::default(); LEVELS],
            pace: Pace::default(),
            downstream: Downstream::default(),
            before: None,
        }
    }
}

impl Learner {
    /// Learns from one tick. `good`: what p95 may be where requests are served well, in seconds.
    pub fn look(&mut self, sample: &Sample, good: f64) {
        let backends = sample.counts.ready + sample.fixed;
        let traffic = &sample.traffic;
        let failing = traffic.failed as f64 > FAILURES * traffic.finished as f64;
        // Who was given up was not served, and took as long as somebody's patience.
        let answered = traffic.finished.saturating_sub(traffic.abandoned);
        let wasted = traffic.abandoned as f64 > ABANDONED * traffic.finished as f64;
        let (at, span, finished) = (sample.at, sample.span, answered as f64);
        let crowded = sample.queued > 0.0 || traffic.shed > 0;
        if crowded {
            // Here, before the backends, where others are turned away.
            let well = answered.saturating_sub(traffic.failed) as f64;
            self.downstream.look(at, span, backends, well, true);
        }
        if backends == 0 || answered == 0 || sample.queued > 0.0 || failing {
            return;
        }
        let at_once = sample.in_flight / f64::from(backends);
        // For a first idea they will do.
        let tells = !wasted || self.fastest().is_none();
        if let Some(level) = self.levels.get_mut(level_of(at_once)).filter(|_| tells) {
            level.add(traffic.mean as f32, &traffic.durations);
        }
        let Some(fastest) = self.fastest() else { return };
        // After a restart into an overload even the fastest waited.
        let typical = fastest.typical();
        let mean = self.before.map_or(typical, |(service, _)| service.min(typical));
        let alone = Alone {
            mean,
            quarter: fastest.quantile(0.25) * mean / typical,
            // What is slow even alone is not slow for the number of requests.
            good: good.max(fastest.quantile(0.95) * ALIKE),
        };
        let second = Second {
            span: sample.span,
            backends,
            finished,
            mean: traffic.mean,
            quarter: quantile(&traffic.durations, 0.25),
            p95: quantile(&traffic.durations, 0.95),
            at_once,
            wasted,
        };
        if !crowded {
            self.downstream.look(at, span, backends, finished, second.waits(&alone));
        }
        // What is slow for another reason is not learned as theirs.
        if self.downstream.bound().is_none() {
            self.pace.look(&second, &alone);
        }
    }

    /// Goes on with what was known before.
    pub fn remember(&mut self, learned: &Learned) {
        self.before = Some((learned.service_time, learned.quantile));
        self.pace.remember(learned.pace, learned.limited);
    }

    /// More backends bring nothing.
    pub fn bound(&self) -> Option<Bound> {
        self.downstream.bound()
    }

    /// They brought nothing the last time.
    pub fn is_doubtful(&self) -> bool {
        self.downstream.is_doubtful()
    }

    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The same as far as it is known after seconds: requests may have waited in all of them.
    pub fn service_at_most(&self) -> Option<f64> {
        self.fastest().map(Level::typical)
    }

    fn fastest(&self) -> Option<&Level> {
        let faster = |a: &&Level, b: &&Level| a.typical().total_cmp(&b.typical());
        let known = self.known().map(|(_, level)| level).min_by(faster);
        let some = self.levels.iter().filter(|level| level.requests >= FIRST);
        known.or_else(|| some.min_by(faster))
    }

    /// Mean time of a request without waiting, in seconds. `quiet`: requests per backend at which
    /// surely nobody waits.
    pub fn service(&self, quiet: f64) -> Option<f64> {
        let known = self.quietest(quiet).map(|(_, level)| level.typical());
        known.or(self.before.map(|(service, _)| service))
    }

    /// A quantile of the time of requests without waiting, in seconds; that of the goal after a restart.
    pub fn quantile(&self, quiet: f64, q: f64) -> Option<f64> {
        let known = self.quietest(quiet).map(|(_, level)| level.quantile(q));
        known.or(self.before.map(|(_, quantile)| quantile))
    }

    /// The lowest known level, if nobody waits at it.
    fn quietest(&self, quiet: f64) -> Option<(usize, &Level)> {
        let (index, level) = self.known().next()?;
        let mut above = self.known().filter(|(other, _)| bound(*other) >= APART * bound(index));
        let flat = above.any(|(_, other)| other.typical() <= HARDLY * level.typical());
        (bound(index) <= quiet.max(1.0) || flat).then_some((index, level))
    }

    fn known(&self) -> impl Iterator<Item = (usize, &Level)> {
        let known = |level: &Level| level.seconds >= SECONDS && level.requests >= REQUESTS;
        self.levels.iter().enumerate().filter(move |(_, level)| known(level))
    }
}

impl Level {
    fn add(&mut self, mean: f32, durations: &[(f64, u64)]) {
        self.seconds = self.seconds.saturating_add(1);
        if self.means.len() == MEANS {
            self.means.pop_front();
        }
        self.means.push_back(mean);
        for &(seconds, count) in durations {
            let (seconds, count) = (seconds as f32, count as f32);
            self.requests += f64::from(count);
            match self.durations.binary_search_by(|(known, _)| known.total_cmp(&seconds)) {
                Ok(at) => self.durations[at].1 += count,
                Err(at) => self.durations.insert(at, (seconds, count)),
            }
        }
        if self.requests > FORGET {
            self.requests /= 2.0;
            self.durations.iter_mut().for_each(|(_, count)| *count /= 2.0);
            self.durations.retain(|(_, count)| *count >= 0.5);
        }
    }

    /// Mean time in a second that nothing disturbed; above zero.
    fn typical(&self) -> f64 {
        let mut means: Vec<f32> = self.means.iter().copied().collect();
        means.sort_by(f32::total_cmp);
        let at = (LOW * means.len() as f64) as usize;
        means.get(at).map_or(0.0, |mean| f64::from(*mean)).max(1e-6)
    }

    fn quantile(&self, q: f64) -> f64 {
        let all: f64 = self.durations.iter().map(|(_, count)| f64::from(*count)).sum();
        let mut below = 0.0;
        for (seconds, count) in &self.durations {
            below += f64::from(*count);
            if below >= q * all {
                return f64::from(*seconds);
            }
        }
        self.durations.last().map_or(0.0, |(seconds, _)| f64::from(*seconds))
    }
}

/// A quantile of (seconds, how many), by length.
fn quantile(durations: &[(f64, u64)], q: f64) -> f64 {
    let all: u64 = durations.iter().map(|(_, count)| count).sum();
    let mut below = 0;
    for (seconds, count) in durations {
        below += count;
        if below as f64 >= q * all as f64 {
            return *seconds;
        }
    }
    durations.last().map_or(0.0, |(seconds, _)| *seconds)
}

/// Level of so many requests per backend; past the last one too many to tell apart.
fn level_of(concurrency: f64) -> usize {
    (0..LEVELS).find(|index| concurrency <= bound(*index)).unwrap_or(LEVELS)
}

/// The most requests per backend that are filed under a level.
fn bound(index: usize) -> f64 {
    if index < 8 {
        return index as f64 + 1.0;
    }
    let (octave, step) = (index / 8, index % 8);
    (f64::from(8 + step as u32 + 1) * 2_f64.powi(octave as i32 - 1)).floor()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scale::{Counts, Traffic};

    /// Seconds of a backend with `slots` of 100 ms each, at one concurrency.
    fn seconds(learner: &mut Learner, slots: f64, concurrency: f64, failed: bool) {
        let time = 0.1 * (concurrency / slots).max(1.0);
        let finished = (concurrency / time) as u64;
        for _ in 0..20 {
            let sample = Sample {
                counts: Counts { ready: 2, ..Counts::default() },
                span: Duration::from_secs(1),
                in_flight: 2.0 * concurrency,
                traffic: Traffic {
                    finished: 2 * finished,
                    failed: if failed { finished } else { 0 },
                    mean: time,
                    durations: vec![(time, 2 * finished)],
                    ..Traffic::default()
                },
                ..Sample::default()
            };
            learner.look(&sample, 1.0);
        }
    }

    #[test]
    fn levels_grow_by_an_eighth_and_miss_nothing() {
        let bounds: Vec<f64> = (0..LEVELS).map(bound).collect();
        assert_eq!(
            bounds[..18],
            [
                1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
                16.0, 18.0, 20.0
            ]
        );
        assert!(bounds.is_sorted_by(|a, b| a < b));
        assert_eq!(bounds.last(), Some(&1024.0));
        assert_eq!((level_of(0.0), level_of(1.5), level_of(1e9)), (0, 1, LEVELS));
    }

    #[test]
    fn twenty_requests_are_a_first_idea_of_the_service_time() {
        let mut learner = Learner::default();
        let second = |time: f64| Sample {
            counts: Counts { ready: 1, ..Counts::default() },
            span: Duration::from_secs(1),
            in_flight: 1.5,
            traffic: Traffic {
                finished: 12,
                mean: time,
                durations: vec![(time, 12)],
                ..Traffic::default()
            },
            ..Sample::default()
        };
        learner.look(&second(0.3), 1.0);
        assert_eq!(learner.service_at_most(), None);
        learner.look(&second(0.1), 1.0);
        assert_eq!(learner.service_at_most().map(|s| (s * 1e3).round()), Some(100.0));
        assert_eq!(learner.service(2.0), None);
        (0..8).for_each(|_| learner.look(&second(0.1), 1.0));
        assert_eq!(learner.service(2.0).map(|s| (s * 1e3).round()), Some(100.0));
    }

    #[test]
    fn what_was_always_busy_has_no_service_time_unless_more_load_was_no_slower() {
        let mut busy = Learner::default();
        seconds(&mut busy, 4.0, 8.0, false);
        assert_eq!(busy.service(2.0), None);
        let mut calm = Learner::default();
        seconds(&mut calm, 40.0, 8.0, false);
        seconds(&mut calm, 40.0, 16.0, false);
        assert!(calm.service(2.0).is_some());
        assert_eq!(busy.service_at_most().map(|s| (s * 1e3).round()), Some(200.0), "at most");
    }

    /// Four slots of 100 ms, and clients that wait for 1 s: what they give up ends, and is not done.
    #[test]
    fn what_clients_give_up_on_is_not_served() {
        let mut learner = Learner::default();
        seconds(&mut learner, 4.0, 2.0, false);
        let spike = |finished: u64, abandoned: u64, time: f64| Sample {
            counts: Counts { ready: 2, ..Counts::default() },
            span: Duration::from_secs(1),
            in_flight: 135.0,
            traffic: Traffic {
                finished,
                abandoned,
                mean: time,
                durations: vec![(time, finished)],
                ..Traffic::default()
            },
            ..Sample::default()
        };
        learner.look(&spike(80, 0, 0.6), 1.0);
        (0..2).for_each(|_| learner.look(&spike(80, 0, 0.9), 1.0));
        let slots = |learner: &Learner| {
            let service = learner.service(2.0).expect("known");
            (learner.pace().most().expect("known") * service * 100.0).round() / 100.0
        };
        assert_eq!((slots(&learner), learner.pace().is_limited()), (4.0, true));
        (0..30).for_each(|_| learner.look(&spike(135, 60, 1.0), 1.0));
        assert_eq!((slots(&learner), learner.pace().is_limited()), (4.0, true));
        assert_eq!(learner.service(2.0).map(|s| (s * 1e3).round()), Some(100.0));
    }

    /// Who is turned away shows that requests wait, and gets nothing done.
    #[test]
    fn more_backends_in_vain_are_seen_while_requests_are_turned_away() {
        let mut learner = Learner::default();
        let second = |at: u64, backends: u32, done: u64| Sample {
            at: at * 1_000_000,
            counts: Counts { ready: backends, ..Counts::default() },
            span: Duration::from_secs(1),
            in_flight: 20.0,
            traffic: Traffic {
                finished: 300,
                failed: 300 - done,
                shed: 300 - done,
                mean: 0.1,
                durations: vec![(0.1, 300)],
                ..Traffic::default()
            },
            ..Sample::default()
        };
        (0..20).for_each(|at| learner.look(&second(at, 2, 40), 1.0));
        (20..60).for_each(|at| learner.look(&second(at, 4, 80), 1.0));
        assert!(learner.bound().is_none(), "twice as many get twice as much done");
        (60..85).for_each(|at| learner.look(&second(at, 8, 80), 1.0));
        let bound = learner.bound().expect("four more got nothing done");
        assert_eq!((bound.before, bound.after), ((4.0, 80.0), (8.0, 80.0)));
    }

    #[test]
    fn failures_and_queues_teach_nothing() {
        let mut learner = Learner::default();
        seconds(&mut learner, 4.0, 1.0, true);
        assert_eq!(learner.service(2.0), None);
    }
}
