//! How long to wait before the next start after children ended by themselves.
//!
//! One exit after a good life is replaced at once. Exits of children that did not live long are
//! failed starts: the delay doubles with each, and from the third in a row on it is a crash
//! loop, in which children are tried one at a time. Pure: it is told what time it is.

use std::time::Duration;

use crate::clock::Micros;

/// Who lived this long was started well.
pub(super) const STABLE: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Failed starts in a row from which on it is called a crash loop.
const CRASH_LOOP: u32 = 3;

/// The state of one service.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Failed starts in a row.
    failures: u32,
    last_failure: Micros,
    retry_at: Micros,
    cause: String,
}

impl Backoff {
    /// A child that was started at `started` ended by itself (or could not be started).
    pub(super) fn exited(&mut self, started: Micros, now: Micros, cause: &str) {
        if now.saturating_sub(started) >= STABLE.as_micros() as Micros {
            return;
        }
        // Those that were started before the last failure are part of the same wave: five
        // children that cannot find their database are one piece of evidence, not five.
        if self.failures == 0 || started >= self.last_failure {
            self.failures += 1;
            let doubled = FIRST_DELAY * 2_u32.saturating_pow(self.failures.min(16) - 1);
            self.retry_at = now + doubled.min(MAX_DELAY).as_micros() as Micros;
        }
        self.last_failure = now;
        cause.clone_into(&mut self.cause);
    }

    /// A child has lived for [`STABLE`]: past failures are forgotten if it was started after
    /// the last one. Older ones prove nothing about starts of today.
    pub(super) fn proven(&mut self, started: Micros) {
        if self.failures > 0 && started >= self.last_failure {
            *self = Self::default();
        }
    }

    /// How many may be started now, `young` being those that live but are not proven yet.
    pub(super) fn allowed(&self, young: usize, now: Micros) -> usize {
        match (now < self.retry_at, self.is_crash_loop()) {
            (true, _) => 0,
            (false, true) => 1_usize.saturating_sub(young),
            (false, false) => usize::MAX,
        }
    }

    /// The next moment at which more may be allowed, if it waits for a moment.
    pub(super) fn retry_at(&self, now: Micros) -> Option<Micros> {
        (now < self.retry_at).then_some(self.retry_at)
    }

    pub(super) fn is_crash_loop(&self) -> bool {
        self.failures >= CRASH_LOOP
    }

    /// Why starts are held back, for people.
    pub(super) fn reason(&self, now: Micros) -> String {
        let what = if self.is_crash_loop() { "crash loop: " } else { "" };
        let starts = if self.failures == 1 { "start" } else { "starts in a row" };
        let next = match self.retry_at(now) {
            Some(at) => format!("next start in {:.1} s", (at - now) as f64 / 1e6),
            None => "one is being tried".to_owned(),
        };
        format!("{what}{} failed {starts}, the last: {}; {next}", self.failures, self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Micros = 1_000_000;

    #[test]
    fn an_exit_after_a_good_life_is_replaced_at_once() {
        let mut backoff = Backoff::default();
        backoff.exited(0, 10 * S, "signal: 9 (SIGKILL)");
        assert_eq!(backoff.allowed(5, 10 * S), usize::MAX);
    }

    #[test]
    fn failed_starts_double_the_delay_up_to_a_cap() {
        let mut backoff = Backoff::default();
        let mut now = 0;
        let mut delays = Vec::new();
        for _ in 0..9 {
            backoff.exited(now, now + 1, "exit status: 1");
            let at = backoff.retry_at(now + 1).expect("waits");
            assert_eq!(backoff.allowed(0, at - 1), 0);
            delays.push((at - now - 1) / 1000);
            now = at;
        }
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn one_wave_counts_once() {
        let mut backoff = Backoff::default();
        for n in 0..5 {
            backoff.exited(0, S + n, "exit status: 1");
        }
        assert_eq!(backoff.failures, 1);
        assert!(!backoff.is_crash_loop());
    }

    #[test]
    fn in_a_crash_loop_one_is_tried_until_it_is_proven() {
        let mut backoff = Backoff::default();
        let mut now = 100 * S;
        for _ in 0..3 {
            backoff.exited(now, now + 1, "exit status: 1");
            now = backoff.retry_at(now + 1).expect("waits");
        }
        assert_eq!(
            backoff.reason(now - S),
            "crash loop: 3 failed starts in a row, the last: exit status: 1; next start in 1.0 s"
        );
        assert_eq!((backoff.allowed(0, now), backoff.allowed(1, now)), (1, 0));
        backoff.proven(now - 5 * S);
        assert_eq!(backoff.allowed(1, now), 0, "an old child proves nothing");
        backoff.proven(now);
        assert_eq!(backoff.allowed(1, now), usize::MAX);
    }
}
