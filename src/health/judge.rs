//! From single check results to "healthy" and "unhealthy": counts, and when to look again.
//!
//! Pure: it is told results and says what they mean. The meaning of the thresholds is that of
//! HAProxy's `rise` and `fall`; a starting backend needs one pass only, because waiting for a
//! second one delays capacity and proves nothing that traffic would not show.

use std::time::Duration;

/// The first delay after a start or a change of mind; doubled up to [`QUICK_MAX`].
const QUICK_MIN: Duration = Duration::from_millis(100);
const QUICK_MAX: Duration = Duration::from_secs(1);

/// The part of `[service.NAME.health]` that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub interval: Duration,
    pub healthy_after: u32,
    pub unhealthy_after: u32,
    /// Failures this long after the first check do not count; a pass ends it.
    pub start_period: Duration,
}

/// A change of mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Healthy,
    Unhealthy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No pass yet, and nothing is sent to it.
    Starting,
    Healthy,
    Unhealthy,
}

/// What is known of one backend from its checks.
#[derive(Debug)]
pub struct Judge {
    thresholds: Thresholds,
    phase: Phase,
    /// Results in a row that speak against the phase.
    streak: u32,
    passed_once: bool,
    quick: Duration,
}

impl Judge {
    /// `starting`: it takes no requests before its first pass; otherwise it is up until checks fail.
    pub fn new(thresholds: Thresholds, starting: bool) -> Self {
        let phase = if starting { Phase::Starting } else { Phase::Healthy };
        Self { thresholds, phase, streak: 0, passed_once: false, quick: QUICK_MIN }
    }

    pub fn pass(&mut self) -> Option<Verdict> {
        self.passed_once = true;
        let needed = match self.phase {
            Phase::Healthy => {
                self.streak = 0;
                self.quick = QUICK_MIN;
                return None;
            }
            Phase::Starting => 1,
            Phase::Unhealthy => self.thresholds.healthy_after,
        };
        self.against(needed, Phase::Healthy, Verdict::Healthy)
    }

    /// It has not passed yet, and takes no requests.
    pub fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }

    /// `age` is the time since the first check began.
    pub fn fail(&mut self, age: Duration) -> Option<Verdict> {
        match self.phase {
            Phase::Starting => None,
            Phase::Unhealthy => {
                self.streak = 0;
                self.quick = QUICK_MIN;
                None
            }
            Phase::Healthy if !self.passed_once && age < self.thresholds.start_period => None,
            Phase::Healthy => {
                self.against(self.thresholds.unhealthy_after, Phase::Unhealthy, Verdict::Unhealthy)
            }
        }
    }

    /// Time to the next check: the interval ±10 %, or 100 ms doubling to 1 s while it starts or
    /// while results speak against what is held to be true.
    pub fn delay(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let base = if self.phase == Phase::Starting || self.streak > 0 {
            let quick = self.quick;
            self.quick = (quick * 2).min(QUICK_MAX);
            quick.min(self.thresholds.interval)
        } else {
            self.thresholds.interval
        };
        base.mul_f64(0.9 + 0.2 * rng.f64())
    }

    fn against(&mut self, needed: u32, phase: Phase, verdict: Verdict) -> Option<Verdict> {
        self.streak += 1;
        if self.streak < needed.max(1) {
            return None;
        }
        self.phase = phase;
        self.streak = 0;
        self.quick = QUICK_MIN;
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        interval: Duration::from_secs(5),
        healthy_after: 2,
        unhealthy_after: 3,
        start_period: Duration::ZERO,
    };
    const LATE: Duration = Duration::from_secs(3600);

    #[test]
    fn a_starting_backend_needs_one_pass_however_often_it_failed() {
        let mut judge = Judge::new(THRESHOLDS, true);
        for _ in 0..100 {
            assert_eq!(judge.fail(LATE), None);
        }
        assert_eq!(judge.pass(), Some(Verdict::Healthy));
    }

    #[test]
    fn only_results_in_a_row_count() {
        let mut judge = Judge::new(THRESHOLDS, false);
        for _ in 0..10 {
            assert_eq!(judge.fail(LATE), None);
            assert_eq!(judge.fail(LATE), None);
            assert_eq!(judge.pass(), None);
        }
        assert_eq!(judge.fail(LATE), None);
        assert_eq!(judge.fail(LATE), None);
        assert_eq!(judge.fail(LATE), Some(Verdict::Unhealthy));
        assert_eq!(judge.fail(LATE), None, "it is unhealthy already");
        assert_eq!(judge.pass(), None);
        assert_eq!(judge.fail(LATE), None);
        assert_eq!(judge.pass(), None);
        assert_eq!(judge.pass(), Some(Verdict::Healthy));
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_until_a_pass_ends_it() {
        let thresholds =
            Thresholds { start_period: Duration::from_secs(30), unhealthy_after: 1, ..THRESHOLDS };
        let mut judge = Judge::new(thresholds, false);
        assert_eq!(judge.fail(Duration::from_secs(29)), None);
        assert_eq!(judge.fail(Duration::from_secs(30)), Some(Verdict::Unhealthy));

        let mut judge = Judge::new(thresholds, false);
        assert_eq!(judge.pass(), None);
        assert_eq!(judge.fail(Duration::from_secs(1)), Some(Verdict::Unhealthy));
    }

    #[test]
    fn it_looks_often_while_something_is_changing() {
        let mut rng = fastrand::Rng::with_seed(7);
        let near = |delay: Duration, of: u64| {
            let of = Duration::from_millis(of);
            delay >= of.mul_f64(0.9) && delay <= of.mul_f64(1.1)
        };
        let mut judge = Judge::new(THRESHOLDS, true);
        for expected in [100, 200, 400, 800, 1000, 1000] {
            judge.fail(LATE);
            let delay = judge.delay(&mut rng);
            assert!(near(delay, expected), "{delay:?} for {expected} ms");
        }
        judge.pass();
        assert!(near(judge.delay(&mut rng), 5000));
        judge.fail(LATE);
        assert!(near(judge.delay(&mut rng), 100), "in transition again");
        judge.pass();
        assert!(near(judge.delay(&mut rng), 5000));
    }
}
