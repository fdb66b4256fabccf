//! Whether more backends bring anything: something behind them (a database, a licence, a lock) may
//! be what is full.
//!
//! While requests wait, throughput is capacity. So if the backends became a quarter more while
//! requests waited before and after, and no more got done, it is not the backends that are full. Then
//! nothing is added for a while, twice as long each time, or until more gets done. Everything is
//! told in seconds of requests that wait; calm tells nothing.

use std::time::Duration;

use crate::clock::Micros;

/// Seconds that are read together.
const SECONDS: f64 = 5.0;
/// So many times the backends are an experiment.
const MORE: f64 = 1.25;
/// Share of what the new backends should have brought that is enough.
const BROUGHT: f64 = 0.3;
/// Readings without it: slow start takes ten seconds.
const READINGS: u32 = 4;
/// Throughput has risen again.
const RISEN: f64 = 1.2;
/// Seconds without anyone waiting that a reading may have in it: a short queue is empty now and then.
const PAUSE: f64 = 3.0;
/// So long without anyone waiting is the end of it, in seconds.
const CALM: f64 = 30.0;
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Downstream {
    reading: Reading,
    /// The fewest backends, with what they got done, of this time of waiting.
    before: Option<Reading>,
    in_vain: u32,
    bound: Option<Bound>,
    /// Of the next time.
    wait: Duration,
    /// Seconds since someone waited.
    calm: f64,
}

/// Nothing is added until then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bound {
    /// Backends, and requests/s, before some were added in vain.
    pub before: (f64, f64),
    /// The same after it.
    pub after: (f64, f64),
    pub until: Micros,
}

#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    seconds: f64,
    /// Sums over the seconds, then means.
    backends: f64,
    rate: f64,
}

impl Downstream {
    /// A second in which so many backends finished so many requests; `waiting`: requests waited in it.
    pub fn look(
        &mut self,
        now: Micros,
        span: Duration,
        backends: u32,
        finished: f64,
        waiting: bool,
    ) {
        let span = span.as_secs_f64();
        if self.bound.is_some_and(|bound| now >= bound.until) {
            // Another try, from what there is now.
            (self.bound, self.before, self.in_vain) = (None, None, 0);
        }
        if !waiting {
            self.calm += span;
            if self.calm >= PAUSE {
                self.reading = Reading::default();
            }
            if self.calm >= CALM {
                *self = Self::default();
            }
            return;
        }
        self.calm = 0.0;
        self.reading.seconds += span;
        self.reading.backends += f64::from(backends) * span;
        self.reading.rate += finished;
        if self.reading.seconds >= SECONDS {
            let reading = std::mem::take(&mut self.reading).means();
            self.judge(now, reading);
        }
    }

    fn judge(&mut self, now: Micros, reading: Reading) {
        if let Some(bound) = self.bound {
            if reading.rate >= RISEN * bound.after.1 {
                *self = Self::default();
            }
            return;
        }
        let Some(before) = &mut self.before else {
            self.before = Some(reading);
            return;
        };
        let more = reading.backends / before.backends.max(1.0);
        let should = before.rate * (1.0 + BROUGHT * (more - 1.0));
        if reading.rate >= should {
            (*before, self.in_vain) = (reading, 0);
        } else if more >= MORE {
            self.in_vain += 1;
        }
        if self.in_vain >= READINGS {
            self.wait = (2 * self.wait).clamp(FIRST, LONGEST);
            self.bound = Some(Bound {
                before: (before.backends, before.rate),
                after: (reading.backends, reading.rate),
                until: now + self.wait.as_micros() as Micros,
            });
        }
    }

    /// More were in vain the last time.
    pub fn is_doubtful(&self) -> bool {
        !self.wait.is_zero()
    }

    pub fn bound(&self) -> Option<Bound> {
        self.bound
    }
}

impl Reading {
    fn means(self) -> Self {
        let seconds = self.seconds;
        Self { seconds, backends: self.backends / seconds, rate: self.rate / seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Seconds {
        downstream: Downstream,
        now: Micros,
    }

    impl Seconds {
        fn new() -> Self {
            Self { downstream: Downstream::default(), now: 0 }
        }

        fn pass(&mut self, count: u32, backends: u32, finished: f64, waiting: bool) -> bool {
            for _ in 0..count {
                self.now += 1_000_000;
                self.downstream.look(self.now, SECOND, backends, finished, waiting);
            }
            self.downstream.bound().is_some()
        }
    }

    #[test]
    fn backends_that_bring_nothing_are_the_last_for_a_minute() {
        let mut seconds = Seconds::new();
        assert!(!seconds.pass(30, 4, 100.0, true), "overload alone is none");
        assert!(!seconds.pass(19, 8, 102.0, true), "new ones may take a while");
        assert!(seconds.pass(1, 8, 102.0, true));
        let bound = seconds.downstream.bound().expect("just seen");
        assert_eq!((bound.before, bound.after), ((4.0, 100.0), (8.0, 102.0)));
        assert!(seconds.pass(59, 8, 102.0, true));
        assert!(!seconds.pass(1, 8, 102.0, true), "after a minute it is tried again");
        seconds.pass(10, 8, 102.0, true);
        seconds.pass(20, 16, 102.0, true);
        let again = seconds.downstream.bound().expect("again in vain");
        assert_eq!(again.until, seconds.now + 120_000_000, "twice as long");
    }

    #[test]
    fn backends_that_bring_more_are_not_in_vain() {
        let mut seconds = Seconds::new();
        for backends in [4, 6, 9, 14, 20] {
            assert!(!seconds.pass(30, backends, 25.0 * f64::from(backends), true), "{backends}");
        }
    }

    #[test]
    fn a_queue_that_is_empty_now_and_then_is_one() {
        let mut seconds = Seconds::new();
        seconds.pass(5, 4, 100.0, true);
        for turn in 0..20 {
            assert!(!seconds.pass(2, 8, 60.0, false), "{turn}");
            let found = seconds.pass(1, 8, 100.0, true);
            assert_eq!(found, turn == 19, "five seconds a reading: {turn}");
        }
        let mut seconds = Seconds::new();
        seconds.pass(5, 4, 100.0, true);
        for turn in 0..40 {
            assert!(!seconds.pass(3, 8, 60.0, false) && !seconds.pass(1, 8, 100.0, true), "{turn}");
        }
    }

    #[test]
    fn more_throughput_ends_it_and_so_does_calm() {
        for (finished, waiting, count) in [(130.0, true, 5), (100.0, false, 30)] {
            let mut seconds = Seconds::new();
            seconds.pass(30, 4, 100.0, true);
            assert!(seconds.pass(20, 8, 100.0, true));
            assert!(!seconds.pass(count, 8, finished, waiting), "{finished} {waiting}");
        }
    }

    #[test]
    fn without_anyone_waiting_throughput_tells_nothing() {
        let mut seconds = Seconds::new();
        for backends in [2, 4, 8, 16] {
            assert!(!seconds.pass(60, backends, 100.0, false), "{backends}");
        }
    }
}
