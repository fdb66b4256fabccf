//! What a service's own traffic tells of its backends: how long a request takes without waiting,
//! and how many one backend serves well at the same time.
//!
//! Every second is filed under how many requests each backend had. At the quietest of these levels
//! nobody waits: that is the service time. The slots are the largest level that is still fast and
//! still brings throughput; they are known only once a level beyond was seen that is not or does
//! not, for until then there may be room for more. Source of nothing but samples: no request pays.

use std::collections::VecDeque;

use crate::scale::Sample;

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
/// Share of the goal that p95 may take at a level that is served well.
const GOOD: f64 = 0.8;
/// Levels are compared with those this much below.
const APART: f64 = 1.25;
/// Throughput rises if it is this much above that of such a level.
const RISING: f64 = 1.05;
/// Without a quiet second: a level counts as quiet if one that much above is hardly slower.
const HARDLY: f64 = 1.1;
/// Seconds with a larger share of failures teach nothing: failing is fast.
const FAILURES: f64 = 0.05;

#[derive(Debug)]
pub(super) struct Learner {
    levels: Vec<Level>,
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
        Self { levels: vec![Level::default(); LEVELS] }
    }
}

impl Learner {
    /// Learns from one tick.
    pub fn look(&mut self, sample: &Sample) {
        let backends = sample.counts.ready + sample.fixed;
        let traffic = &sample.traffic;
        let failing = traffic.failed as f64 > FAILURES * traffic.finished as f64;
        if backends == 0 || traffic.finished == 0 || sample.queued > 0.0 || failing {
            return;
        }
        let level = level_of(sample.in_flight / f64::from(backends));
        if let Some(level) = self.levels.get_mut(level) {
            level.add(traffic.mean as f32, &traffic.durations);
        }
    }

    /// Mean time of a request without waiting, in seconds. `quiet`: requests per backend at which
    /// surely nobody waits.
    pub fn service(&self, quiet: f64) -> Option<f64> {
        self.quietest(quiet).map(|(_, level)| level.typical())
    }

    /// A quantile of the time of requests without waiting, in seconds.
    pub fn quantile(&self, quiet: f64, q: f64) -> Option<f64> {
        self.quietest(quiet).map(|(_, level)| level.quantile(q))
    }

    /// Requests that a backend serves well at the same time, for a goal in seconds.
    pub fn slots(&self, quiet: f64, goal: f64) -> Option<f64> {
        let (first, _) = self.quietest(quiet)?;
        let mut good = None;
        let mut limited = false;
        let mut last = first;
        for (index, level) in self.known().filter(|(index, _)| *index >= first) {
            if level.quantile(0.95) > GOOD * goal || !self.brings_more(index, level) {
                limited = true;
                break;
            }
            good = Some(bound(index));
            last = index;
        }
        limited = limited || self.is_slow_beyond(last, GOOD * goal);
        good.or(Some(bound(first))).filter(|_| limited)
    }

    /// Under a growing overload no level lasts for long; what was seen above one counts together.
    fn is_slow_beyond(&self, last: usize, most: f64) -> bool {
        let beyond = || self.levels.iter().skip(last + 1);
        let seconds: u32 = beyond().map(|level| level.seconds).sum();
        let requests: f64 = beyond().map(|level| level.requests).sum();
        let slow: f64 = beyond().map(|level| level.slower(most)).sum();
        seconds >= SECONDS && requests >= REQUESTS && slow > 0.05 * requests
    }

    /// More throughput than at the levels well below; by Little's law it is concurrency over time.
    fn brings_more(&self, index: usize, level: &Level) -> bool {
        let throughput = |index: usize, level: &Level| bound(index) / level.typical();
        let below = self.known().filter(|(other, _)| bound(*other) * APART <= bound(index));
        below
            .map(|(other, level)| throughput(other, level))
            .max_by(f64::total_cmp)
            .is_none_or(|best| throughput(index, level) >= RISING * best)
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

    /// Requests that took longer.
    fn slower(&self, than: f64) -> f64 {
        let slower = self.durations.iter().filter(|(seconds, _)| f64::from(*seconds) > than);
        slower.map(|(_, count)| f64::from(*count)).sum()
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
    use super::*;
    use crate::scale::{Counts, Traffic};

    /// Seconds of a backend with `slots` of 100 ms each, at one concurrency.
    fn seconds(learner: &mut Learner, slots: f64, concurrency: f64, failed: bool) {
        let time = 0.1 * (concurrency / slots).max(1.0);
        let finished = (concurrency / time) as u64;
        for _ in 0..20 {
            learner.look(&Sample {
                counts: Counts { ready: 2, ..Counts::default() },
                in_flight: 2.0 * concurrency,
                traffic: Traffic {
                    finished: 2 * finished,
                    failed: if failed { finished } else { 0 },
                    mean: time,
                    durations: vec![(time, 2 * finished)],
                    ..Traffic::default()
                },
                ..Sample::default()
            });
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
    fn slots_are_known_once_more_was_seen_to_bring_nothing() {
        let mut learner = Learner::default();
        for concurrency in [1.0, 2.0, 3.0, 4.0] {
            seconds(&mut learner, 4.0, concurrency, false);
        }
        assert_eq!(learner.service(2.0).map(|s| (s * 1e3).round()), Some(100.0));
        assert_eq!(learner.slots(2.0, 0.25), None, "nothing beyond was seen");
        for concurrency in [5.0, 6.0] {
            seconds(&mut learner, 4.0, concurrency, false);
        }
        assert_eq!(learner.slots(2.0, 0.25), Some(4.0), "5 bring no more than 4");
        assert_eq!(learner.slots(2.0, 0.12), Some(1.0), "not even one is fast enough");
    }

    #[test]
    fn an_overload_that_grows_every_second_is_enough() {
        let mut learner = Learner::default();
        for concurrency in [1.0, 2.0, 3.0] {
            seconds(&mut learner, 4.0, concurrency, false);
        }
        let overload = |learner: &mut Learner, second: u32| {
            let (concurrency, time) =
                (f64::from(20 + 8 * second), 0.1 * f64::from(20 + 8 * second) / 4.0);
            learner.look(&Sample {
                counts: Counts { ready: 1, ..Counts::default() },
                in_flight: concurrency,
                traffic: Traffic {
                    finished: 40,
                    mean: time,
                    durations: vec![(time, 40)],
                    ..Traffic::default()
                },
                ..Sample::default()
            });
        };
        (0..9).for_each(|second| overload(&mut learner, second));
        assert_eq!(learner.slots(2.0, 0.35), None, "nine seconds may be chance");
        overload(&mut learner, 9);
        assert_eq!(learner.slots(2.0, 0.35), Some(3.0), "more than three is not known to be good");
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
    }

    #[test]
    fn failures_and_queues_teach_nothing() {
        let mut learner = Learner::default();
        seconds(&mut learner, 4.0, 1.0, true);
        assert_eq!(learner.service(2.0), None);
    }
}
