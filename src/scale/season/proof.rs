//! Whether what came before tells what comes: a back-test with the windows that have passed.
//!
//! For each of them what would have been expected is compared with what came. A season is believed while all of
//! this holds:
//!
//! - of the last 24 windows (2 hours) at least 12 were expected, half of them within 25 %;
//! - in the last week at least six rises (a window with a fifth more than the one before it) were expected and
//!   came, but for a quarter of the rise, and three of four that were expected;
//! - over the rises that came in that week, expectations were wrong by at most a quarter as much as to say that
//!   the last window goes on.
//!
//! Chance does each of these now and then; a load without a season hardly ever does all of them. The price is
//! time: a load is believed after six rises that it had the day before as well. One without rises needs none of this and is
//! never raised.

use super::{RISE, Season, WEEK};

/// Windows that are looked at for whether it holds now, and those that must have been expected.
const LATELY: u64 = 24;
const LEAST_EXPECTED: usize = 12;
/// Largest error that is right: of the larger of both, and of a rise.
const RIGHT: f64 = 0.25;
/// Rises that came as expected, at least, and their share of all that were expected.
const LEAST_RISES: u32 = 6;
const RISES_SHARE: f64 = 0.75;
/// Error over rises, as a share of that of who expects nothing new.
const BETTER: f64 = 0.25;

/// Sums over windows.
#[derive(Default)]
struct Rises {
    /// Rises that were expected, and those of them that came.
    expected: u32,
    right: u32,
    /// Of rises that came: errors of what was expected, and of the window before.
    error: f64,
    error_of_last: f64,
}

impl Season {
    /// To be called whenever a window is over.
    pub(super) fn prove(&mut self) {
        self.proven = self.is_right_lately() && self.knows_rises();
    }

    fn is_right_lately(&self) -> bool {
        let errors: Vec<f64> =
            self.tested(LATELY).map(|(expected, came, _)| error(expected, came)).collect();
        let right = errors.iter().filter(|error| **error <= RIGHT).count();
        errors.len() >= LEAST_EXPECTED && 2 * right >= errors.len()
    }

    fn knows_rises(&self) -> bool {
        let mut sum = Rises::default();
        for (expected, came, before) in self.tested(WEEK) {
            if expected >= RISE * before && expected > 0.0 {
                sum.expected += 1;
                sum.right += u32::from(
                    came >= RISE * before && (expected - came).abs() <= RIGHT * (came - before),
                );
            }
            if came > RISE * before {
                sum.error += (expected - came).abs();
                sum.error_of_last += came - before;
            }
        }
        sum.right >= LEAST_RISES
            && f64::from(sum.right) >= RISES_SHARE * f64::from(sum.expected)
            && sum.error <= BETTER * sum.error_of_last
    }

    /// Of the last windows: what was expected, what came, and what came in the one before.
    fn tested(&self, windows: u64) -> impl Iterator<Item = (f64, f64, f64)> {
        let oldest = self.newest.saturating_sub(windows) + 1;
        (oldest..=self.newest).filter_map(|window| {
            let (came, before) = (self.get(window)?, self.get(window - 1)?);
            Some((self.forecast(window, window - 1)?.rate(), came, before))
        })
    }
}

fn error(expected: f64, came: f64) -> f64 {
    let larger = expected.max(came);
    if larger > 0.0 { (expected - came).abs() / larger } else { 0.0 }
}
