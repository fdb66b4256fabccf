//! When something that clients do too much begins, goes on and ends, told from counters that only grow.
//!
//! A counter that moves after calm is a beginning, and is told at once. One that has not moved for [`CALM`] is an end.
//! In between it is told once a minute that it goes on. So there are at most six beginnings and ends a minute, and
//! the log has one of them: who begins again within a minute is told of quietly.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use foldhash::fast::RandomState;
use serde::Serialize;

use crate::clock::Micros;

/// So long a counter has to stand still for an end.
const CALM: Micros = 10_000_000;
/// Between two times that one is told to go on, and between two beginnings in the log.
const PAUSE: Micros = 60_000_000;

/// What is told of a spell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Begun,
    GoesOn,
    Ended,
}

/// One thing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub step: Step,
    /// In all since it began.
    pub count: u64,
    /// From its beginning to the last time that it was seen, to the second.
    pub lasted: Duration,
    /// For those who ask for everything, not for the log.
    pub quiet: bool,
}

impl Told {
    pub fn lasted_ms(&self) -> u64 {
        self.lasted.as_millis() as u64
    }
}

/// Spells by what does them, as long as there is anything to count.
#[derive(Debug)]
pub struct Spells<K> {
    all: HashMap<K, Spell, RandomState>,
    round: u64,
}

impl<K> Default for Spells<K> {
    fn default() -> Self {
        Self { all: HashMap::default(), round: 0 }
    }
}

/// One counter.
#[derive(Debug, Default)]
struct Spell {
    /// The counter at the last look, and the round of that.
    seen: (u64, u64),
    on: Option<On>,
    /// No other beginning is for the log before this.
    loud_from: Micros,
}

#[derive(Debug)]
struct On {
    began: Micros,
    last: Micros,
    count: u64,
    /// When it is told again.
    due: Micros,
    quiet: bool,
}

impl<K: Hash + Eq + Clone> Spells<K> {
    /// What there is to tell now of these counters. One that is not among them any more has ended.
    pub fn look(
        &mut self,
        counts: impl IntoIterator<Item = (K, u64)>,
        now: Micros,
    ) -> Vec<(K, Told)> {
        self.round += 1;
        let mut news = Vec::new();
        for (key, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let spell = self.all.entry(key.clone()).or_default();
            spell.seen.1 = self.round;
            news.extend(spell.look(count, now).map(|told| (key, told)));
        }
        for (key, mut gone) in self.all.extract_if(|_, spell| spell.seen.1 != self.round) {
            news.extend(gone.end().map(|told| (key, told)));
        }
        news
    }
}

impl Spell {
    fn look(&mut self, count: u64, now: Micros) -> Option<Told> {
        // What was taken away and came back counts from the start.
        let more = count.checked_sub(self.seen.0).unwrap_or(count);
        self.seen.0 = count;
        let Some(on) = &mut self.on else {
            return (more > 0).then(|| self.begin(more, now));
        };
        if more == 0 {
            return if now >= on.last + CALM { self.end() } else { None };
        }
        on.count += more;
        on.last = now;
        if now < on.due {
            return None;
        }
        // One that goes on is for the log, however it began.
        (on.due, on.quiet) = (now + PAUSE, false);
        Some(on.told(Step::GoesOn))
    }

    fn begin(&mut self, count: u64, now: Micros) -> Told {
        let quiet = now < self.loud_from;
        if !quiet {
            self.loud_from = now + PAUSE;
        }
        let on = On { began: now, last: now, count, due: now + PAUSE, quiet };
        self.on.insert(on).told(Step::Begun)
    }

    fn end(&mut self) -> Option<Told> {
        self.on.take().map(|on| on.told(Step::Ended))
    }
}

impl On {
    fn told(&self, step: Step) -> Told {
        let lasted = Duration::from_micros(self.last.saturating_sub(self.began));
        Told { step, count: self.count, lasted, quiet: self.quiet }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Micros = 1_000_000;

    fn told(step: Step, count: u64, seconds: u64, quiet: bool) -> Vec<((), Told)> {
        vec![((), Told { step, count, lasted: Duration::from_secs(seconds), quiet })]
    }

    #[test]
    fn it_begins_at_once_goes_on_by_the_minute_and_ends_after_calm() {
        let mut spells = Spells::default();
        let mut look = |count, at| spells.look([((), count)], at * SECOND);
        assert_eq!(look(0, 0), []);
        assert_eq!(look(3, 1), told(Step::Begun, 3, 0, false));
        assert_eq!((look(5, 2), look(5, 11)), (vec![], vec![]));
        assert_eq!(look(6, 60), []);
        assert_eq!(look(9, 61), told(Step::GoesOn, 9, 60, false));
        assert_eq!(look(9, 70), []);
        assert_eq!(look(9, 71), told(Step::Ended, 9, 60, false));
        assert_eq!(look(9, 200), []);
        assert_eq!(look(10, 201), told(Step::Begun, 1, 0, false));
    }

    #[test]
    fn the_log_has_one_beginning_a_minute() {
        let mut spells = Spells::default();
        let mut look = |count, at| spells.look([((), count)], at * SECOND);
        assert_eq!(look(1, 0), told(Step::Begun, 1, 0, false));
        assert_eq!(look(1, 10), told(Step::Ended, 1, 0, false));
        assert_eq!(look(2, 20), told(Step::Begun, 1, 0, true));
        assert_eq!(look(2, 30), told(Step::Ended, 1, 0, true));
        assert_eq!(look(3, 40), told(Step::Begun, 1, 0, true));
        for at in 41..100 {
            assert_eq!(look(at, at), []);
        }
        assert_eq!(look(100, 100), told(Step::GoesOn, 98, 60, false), "it lasts: that is news");
        assert_eq!(look(100, 110), told(Step::Ended, 98, 60, false));
    }

    #[test]
    fn what_is_taken_away_has_ended_and_may_come_back() {
        let mut spells = Spells::default();
        assert_eq!(spells.look([((), 7)], 0), told(Step::Begun, 7, 0, false));
        assert_eq!(spells.look([((), 2)], 0), [], "another counter under the same name");
        assert_eq!(spells.look([], 2), told(Step::Ended, 9, 0, false));
        assert_eq!(spells.look([], 3), []);
        assert!(spells.all.is_empty());
        assert_eq!(spells.look([((), 1)], 4), told(Step::Begun, 1, 0, false));
    }

    proptest! {
        /// Beginnings and ends take turns, nothing is counted twice or lost, and the log stays short.
        #[test]
        fn every_beginning_has_its_end(steps in prop::collection::vec((0u64..3, 1u64..15), 1..200)) {
            let mut spells = Spells::default();
            let (mut count, mut now, mut on, mut summed, mut loud) = (0, 0, false, 0, 0);
            for (more, seconds) in steps.into_iter().chain([(0, 10), (0, 10)]) {
                now += seconds * SECOND;
                count += more;
                for (_, told) in spells.look([((), count)], now) {
                    match told.step {
                        Step::Begun => prop_assert!(!std::mem::replace(&mut on, true)),
                        Step::GoesOn => prop_assert!(on),
                        Step::Ended => {
                            prop_assert!(std::mem::replace(&mut on, false));
                            summed += told.count;
                        }
                    }
                    loud += u64::from(!told.quiet);
                }
            }
            prop_assert!(!on && summed == count);
            prop_assert!(loud <= 3 * (now / PAUSE + 1), "{loud} in {now} µs");
        }
    }
}
