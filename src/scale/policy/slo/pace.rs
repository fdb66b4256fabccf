//! How many requests a second one backend gets done, and whether it could do more.
//!
//! By Little's law a backend that finishes `x` requests a second, each of which takes `s` seconds of
//! work, works on `x × s` of them at once, however many wait there. So its slots are the most that
//! `x × s` was ever seen to be: exactly, once requests wait at backends (everything takes longer,
//! and no more gets done), and at least that, as long as they do not. Seconds are taken together
//! until there are enough requests to believe them. What a request takes without waiting is left to
//! [`super::learn`].

use std::time::Duration;

/// Seconds and requests of a reading.
const SECONDS: f64 = 2.0;
const REQUESTS: f64 = 50.0;
/// A second whose throughput is off by this share begins a new one.
const CHANGED: f64 = 0.5;
/// One second is enough with so many.
const MANY: f64 = 200.0;
/// Requests wait at the backends if they take this many times as long as without waiting, ...
const WAITING: f64 = 1.5;
/// ... and so does the fastest quarter of them: a few slow requests are not a queue.
const QUARTER: f64 = 1.25;
/// Slower than this, and there is less room above what was seen.
const CALM: f64 = 1.1;
/// How much more than what was seen may be tried.
const ROOM: f64 = 4.0 / 3.0;
/// Weight of a new reading of the limit.
const WEIGHT: f64 = 0.3;
/// What is left of the limit after a reading that was slow far below it.
const DOUBT: f64 = 0.95;
/// Less than this of what they did before, while requests wait: something else is slow.
const SLOWER: f64 = 0.7;
/// More than this above the limit, served well: it was none.
const REFUTED: f64 = 1.1;

/// What one backend gets done.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    reading: Reading,
    backends: u32,
    /// The most that was sustained, in requests/s.
    best: Option<f64>,
    /// How much longer than without waiting requests took at that.
    strain: f64,
    /// Nothing more is to be had: requests waited, or were too slow.
    limited: bool,
    /// Requests waited in the last reading, although far less got done than before.
    slower: bool,
}

/// A second of a service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Second {
    pub span: Duration,
    pub backends: u32,
    pub finished: f64,
    /// Mean, lower quartile and 95th percentile of the time of requests, in seconds.
    pub mean: f64,
    pub quarter: f64,
    pub p95: f64,
    /// Requests at one backend.
    pub at_once: f64,
    /// Clients gave up many of them: backends did more than what they finished.
    pub wasted: bool,
}

/// What is known of requests that do not wait, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alone {
    pub mean: f64,
    pub quarter: f64,
    /// The most that p95 may take.
    pub good: f64,
}

/// Sums over the seconds that are not read yet, weighted with their length.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    seconds: f64,
    requests: f64,
    finished: f64,
    mean: f64,
    quarter: f64,
    p95: f64,
    at_once: f64,
    wasted: bool,
}

impl Pace {
    pub fn look(&mut self, second: &Second, alone: &Alone) {
        // Who has just come or is about to go does not do the work of one.
        let before = std::mem::replace(&mut self.backends, second.backends);
        if before != second.backends && before != 0 {
            self.reading = Reading::default();
            return;
        }
        if self.reading.is_unlike(second) {
            self.reading = Reading::default();
        }
        self.reading.add(second);
        if self.reading.is_enough() {
            let reading = std::mem::take(&mut self.reading);
            self.judge(&reading.means(), f64::from(second.backends.max(1)), alone);
        }
    }

    fn judge(&mut self, reading: &Reading, backends: f64, alone: &Alone) {
        let pace = reading.finished / backends;
        let strain = reading.mean / alone.mean;
        let waiting = waits(reading.mean, reading.quarter, alone);
        self.slower = false;
        let Some(best) = self.best else {
            (self.best, self.strain) = (Some(pace), strain);
            self.limited = waiting && !reading.wasted;
            return;
        };
        if reading.wasted {
            // So much at the least. While requests wait it is all there is to be had, too, unless more got done before.
            self.limited |= waiting && pace >= best;
            self.best = Some(best.max(pace));
            return;
        }
        self.slower = waiting && pace < SLOWER * best;
        let proven = pace >= best || reading.at_once > best * alone.mean;
        if waiting && proven && !(self.limited && self.slower) {
            let weight = (reading.requests / MANY).clamp(WEIGHT, 1.0);
            let weight = if pace > best { weight } else { WEIGHT };
            let from = if self.limited { weight } else { 1.0 };
            // What was served well before is proven.
            self.best = Some(match self.limited || pace > best {
                true => best + from * (pace - best),
                false => best,
            });
            self.limited = true;
        } else if waiting || reading.p95 > alone.good {
            self.best = Some((best * DOUBT).max(pace).min(best));
        } else if pace > best {
            self.limited &= pace <= REFUTED * best;
            self.best = Some(if self.limited { best + WEIGHT * (pace - best) } else { pace });
            self.strain = strain;
        }
    }

    /// Goes on with what was seen before.
    pub fn remember(&mut self, best: f64, limited: bool) {
        (self.best, self.limited) = (Some(best), limited);
        self.strain = 1.0;
    }

    /// Requests/s of a backend that works without a pause; with what may be tried above that.
    pub fn most(&self) -> Option<f64> {
        Some(self.best? * if self.limited { 1.0 } else { self.room() })
    }

    /// Requests/s that a backend was seen to get done.
    pub fn seen(&self) -> Option<f64> {
        self.best
    }

    /// Backends get less done than they did, and requests wait: more of them may not help.
    pub fn is_slower(&self) -> bool {
        self.slower
    }

    pub fn is_limited(&self) -> bool {
        self.limited
    }

    fn room(&self) -> f64 {
        let strained = ((self.strain - CALM) / (WAITING - CALM)).clamp(0.0, 1.0);
        ROOM - (ROOM - 1.0) * strained
    }
}

impl Second {
    /// Requests waited at the backends in it.
    pub fn waits(&self, alone: &Alone) -> bool {
        waits(self.mean, self.quarter, alone)
    }
}

fn waits(mean: f64, quarter: f64, alone: &Alone) -> bool {
    mean >= WAITING * alone.mean && quarter >= QUARTER * alone.quarter
}

impl Reading {
    fn add(&mut self, second: &Second) {
        let span = second.span.as_secs_f64();
        self.seconds += span;
        self.finished += second.finished;
        self.mean += second.mean * second.finished;
        self.quarter += second.quarter * second.finished;
        self.p95 += second.p95 * second.finished;
        self.at_once += second.at_once * span;
        self.wasted |= second.wasted;
    }

    /// The load has changed, beyond chance.
    fn is_unlike(&self, second: &Second) -> bool {
        let span = second.span.as_secs_f64();
        let expected = self.finished / self.seconds.max(1e-3) * span;
        let off = (second.finished - expected).abs();
        self.seconds > 0.0 && off > CHANGED * expected && off > 3.0 * expected.max(1.0).sqrt()
    }

    fn is_enough(&self) -> bool {
        self.finished >= MANY || (self.seconds >= SECONDS && self.finished >= REQUESTS)
    }

    fn means(&self) -> Self {
        let (span, requests) = (self.seconds.max(1e-3), self.finished.max(1.0));
        Self {
            seconds: self.seconds,
            requests: self.finished,
            finished: self.finished / span,
            mean: self.mean / requests,
            quarter: self.quarter / requests,
            p95: self.p95 / requests,
            at_once: self.at_once / span,
            wasted: self.wasted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Alone = Alone { mean: 0.1, quarter: 0.08, good: 0.4 };

    /// Seconds of five backends of so many slots of 100 ms, at one concurrency.
    fn seconds(pace: &mut Pace, count: u32, slots: f64, at_once: f64) {
        let longer = (at_once / slots).max(1.0);
        for _ in 0..count {
            let second = Second {
                span: Duration::from_secs(1),
                backends: 5,
                finished: 5.0 * at_once.min(slots) / ALONE.mean,
                mean: ALONE.mean * longer,
                quarter: ALONE.quarter * longer,
                p95: 2.0 * ALONE.mean * longer,
                at_once,
                wasted: false,
            };
            pace.look(&second, &ALONE);
        }
    }

    fn slots(pace: &Pace) -> Option<f64> {
        pace.most().map(|most| (most * ALONE.mean * 10.0).round() / 10.0)
    }

    #[test]
    fn what_is_served_well_may_be_a_third_more() {
        let mut pace = Pace::default();
        seconds(&mut pace, 1, 16.0, 3.0);
        assert_eq!(slots(&pace), None, "a second of few requests");
        seconds(&mut pace, 1, 16.0, 3.0);
        assert_eq!((slots(&pace), pace.is_limited()), (Some(4.0), false));
        seconds(&mut pace, 2, 16.0, 6.0);
        assert_eq!((slots(&pace), pace.is_limited()), (Some(8.0), false));
        seconds(&mut pace, 60, 16.0, 1.0);
        assert_eq!(slots(&pace), Some(8.0), "less load is no less room");
    }

    #[test]
    fn who_waits_shows_how_many_there_are() {
        let mut pace = Pace::default();
        seconds(&mut pace, 2, 4.0, 2.0);
        seconds(&mut pace, 1, 4.0, 20.0);
        assert_eq!((slots(&pace), pace.is_limited()), (Some(4.0), true));
        seconds(&mut pace, 20, 4.0, 3.0);
        assert_eq!((slots(&pace), pace.is_limited()), (Some(4.0), true), "calm refutes nothing");
    }

    #[test]
    fn more_that_is_served_well_refutes_a_limit() {
        let mut pace = Pace::default();
        seconds(&mut pace, 2, 4.0, 2.0);
        seconds(&mut pace, 1, 4.0, 20.0);
        seconds(&mut pace, 10, 16.0, 8.0);
        assert_eq!((slots(&pace), pace.is_limited()), (Some(10.7), false));
    }

    /// Something behind the backends is slow: they do less than they did well before.
    #[test]
    fn slow_far_below_what_was_served_well_is_doubted_and_believed_only_slowly() {
        let mut pace = Pace::default();
        seconds(&mut pace, 2, 16.0, 12.0);
        let slow = |pace: &mut Pace, count| {
            for _ in 0..count {
                let second = Second {
                    span: Duration::from_secs(1),
                    backends: 5,
                    finished: 100.0,
                    mean: 0.3,
                    quarter: 0.25,
                    p95: 0.6,
                    at_once: 6.0,
                    wasted: false,
                };
                pace.look(&second, &ALONE);
            }
        };
        slow(&mut pace, 4);
        let at_first = slots(&pace).expect("known");
        assert!((13.0..16.0).contains(&at_first), "{at_first}");
        slow(&mut pace, 100);
        // 6 at once that take three times as long do the work of 2.
        let at_last = slots(&pace).expect("known");
        assert!((2.0..7.0).contains(&at_last), "{at_last}");
    }

    #[test]
    fn what_clients_gave_up_on_is_no_sign_of_slots() {
        let mut pace = Pace::default();
        seconds(&mut pace, 2, 16.0, 3.0);
        let given_up = |finished| Second {
            span: Duration::from_secs(1),
            backends: 5,
            finished,
            mean: 0.5,
            quarter: 0.4,
            p95: 1.0,
            at_once: 40.0,
            wasted: true,
        };
        (0..20).for_each(|_| pace.look(&given_up(50.0), &ALONE));
        assert_eq!((slots(&pace), pace.is_limited(), pace.is_slower()), (Some(4.0), false, false));
        (0..20).for_each(|_| pace.look(&given_up(300.0), &ALONE));
        assert_eq!((slots(&pace), pace.is_limited()), (Some(6.0), true), "no more while they wait");
    }

    #[test]
    fn a_few_slow_requests_are_not_a_queue() {
        let mut pace = Pace::default();
        seconds(&mut pace, 2, 16.0, 3.0);
        let tail = Second {
            span: Duration::from_secs(1),
            backends: 5,
            finished: 200.0,
            mean: 0.25,
            quarter: 0.08,
            p95: 0.39,
            at_once: 10.0,
            wasted: false,
        };
        (0..20).for_each(|_| pace.look(&tail, &ALONE));
        assert!(!pace.is_limited());
    }

    #[test]
    fn a_second_with_another_number_of_backends_is_not_read() {
        let mut pace = Pace::default();
        for backends in [5, 6, 7, 8, 9] {
            let second = Second {
                span: Duration::from_secs(1),
                backends,
                finished: 1000.0,
                mean: 0.1,
                quarter: 0.08,
                p95: 0.2,
                at_once: 10.0,
                wasted: false,
            };
            pace.look(&second, &ALONE);
        }
        // The first one may have had the backends for all of it.
        assert_eq!(pace.seen(), Some(200.0));
    }
}
