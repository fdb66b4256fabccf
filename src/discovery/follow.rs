//! Whether an answer is believed, and when to ask again.
//!
//! A failure (no server answers, SERVFAIL, a file that cannot be read) says nothing about the
//! backends: what was found last stays, for as long as it takes. An answer counts at once as long
//! as it names at least one backend. "There are none" (NXDOMAIN, no such records) is doubted: a
//! server that lost its zone says the same. It counts when nothing else was heard for the longest
//! time that an answer is good for, up to 30 s.

use std::time::Duration;

use crate::clock::Micros;

use super::{Answer, AskError, Found};

/// First wait after a failure; it doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after a failure, and longest doubt.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known of one feed from one answer to the next.
#[derive(Debug, Default)]
pub struct Follower {
    none_since: Option<Micros>,
    retry: Option<Duration>,
}

/// What an outcome means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// These there are from now on; `None`: what was there stays.
    pub found: Option<Vec<Found>>,
    /// Why not all is well.
    pub error: Option<String>,
    pub wait: Duration,
}

impl Follower {
    /// `bounds`: of the time that an answer is good for; the upper one, up to 30 s, also bounds
    /// the waits after failures and is how long "there are none" is doubted. `known`: there are backends of
    /// this feed.
    pub fn judge(
        &mut self,
        outcome: Result<Answer, AskError>,
        known: bool,
        bounds: (Duration, Duration),
        now: Micros,
        rng: &mut fastrand::Rng,
    ) -> Verdict {
        let (min, max) = bounds;
        let patience = max.min(PATIENCE);
        match outcome {
            Ok(answer) => {
                *self = Self::default();
                let wait = answer.ttl.clamp(min, max.max(min));
                let error = (!answer.doubts.is_empty()).then(|| answer.doubts.join("; "));
                Verdict { found: Some(answer.found), error, wait }
            }
            Err(AskError::None(why)) => {
                let since = *self.none_since.get_or_insert(now);
                let doubted = Duration::from_micros(now.saturating_sub(since)) < patience;
                let wait = self.next_retry(patience, rng);
                match known && doubted {
                    true => {
                        let error = format!("{why}; the last answer is kept for now");
                        Verdict { found: None, error: Some(error), wait }
                    }
                    false => Verdict { found: Some(Vec::new()), error: Some(why), wait },
                }
            }
            Err(AskError::Failed(why)) => {
                // It interrupts what was said before: none of it is certain.
                self.none_since = None;
                let wait = self.next_retry(patience, rng);
                let error = if known { format!("{why}; the last answer is kept") } else { why };
                Verdict { found: None, error: Some(error), wait }
            }
        }
    }

    /// Doubles up to `max`, ±20 %, so that many do not ask at once when a server comes back.
    fn next_retry(&mut self, max: Duration, rng: &mut fastrand::Rng) -> Duration {
        let wait = self.retry.unwrap_or(FIRST_RETRY).min(max.max(Duration::from_millis(100)));
        self.retry = Some(wait * 2);
        wait.mul_f64(0.8 + 0.4 * rng.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

    fn answer(ttl: u64) -> Result<Answer, AskError> {
        let found = vec![Found::at(([10, 0, 0, 1], 3000).into())];
        Ok(Answer { found, doubts: Vec::new(), ttl: Duration::from_secs(ttl) })
    }

    fn none() -> Result<Answer, AskError> {
        Err(AskError::None("no such name".into()))
    }

    fn failed() -> Result<Answer, AskError> {
        Err(AskError::Failed("no nameserver answers".into()))
    }

    struct World(Follower, fastrand::Rng);

    impl World {
        fn new() -> Self {
            Self(Follower::default(), fastrand::Rng::with_seed(1))
        }

        fn hear(&mut self, second: u64, outcome: Result<Answer, AskError>, known: bool) -> Verdict {
            self.0.judge(outcome, known, BOUNDS, second * 1_000_000, &mut self.1)
        }
    }

    #[test]
    fn a_ttl_is_held_to_its_bounds() {
        let mut world = World::new();
        let mut wait = |ttl| world.hear(0, answer(ttl), true).wait.as_secs();
        assert_eq!([wait(0), wait(10), wait(3600)], [2, 10, 30]);
    }

    #[test]
    fn a_failure_never_takes_backends_away() {
        let mut world = World::new();
        for second in (0..100_000).step_by(100) {
            let verdict = world.hear(second, failed(), true);
            assert_eq!(verdict.found, None);
            assert!(verdict.error.is_some());
        }
    }

    #[test]
    fn there_are_none_counts_when_it_was_heard_for_a_while_and_nothing_else() {
        let mut world = World::new();
        assert_eq!(world.hear(0, none(), true).found, None);
        assert_eq!(world.hear(29, none(), true).found, None);
        assert_eq!(world.hear(30, none(), true).found, Some(vec![]));

        for other in [answer(1), failed()] {
            let mut world = World::new();
            world.hear(0, none(), true);
            world.hear(20, other, true);
            assert_eq!(world.hear(40, none(), true).found, None, "it began anew");
        }
        // Where there are none there is nothing to be doubted.
        assert_eq!(World::new().hear(0, none(), false).found, Some(vec![]));
    }

    #[test]
    fn waits_after_failures_double_within_the_bound_and_begin_anew() {
        let mut world = World::new();
        let mut waits = Vec::new();
        for _ in 0..7 {
            waits.push(world.hear(0, failed(), false).wait.as_secs_f64());
        }
        for (wait, about) in waits.into_iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]) {
            assert!((0.8 * about..=1.2 * about).contains(&wait), "{wait} is not about {about}");
        }
        world.hear(0, answer(1), false);
        assert!(world.hear(0, failed(), false).wait <= Duration::from_millis(1200));
    }
}
