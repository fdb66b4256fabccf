//! What was learned of a service's backends, so that a restart does not forget it.
//!
//! A policy gives and takes [`Learned`]; [`Kept`] is that with what it was learned of and when, a
//! line of the journal. It is not believed forever: not of other backends, and not after a week.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Wall;

/// What is older was of other times.
const MOST_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Numbers nearer than this are the same.
const ALIKE: f64 = 0.1;

/// What is known of backends that are all alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Mean time of a request without waiting, in seconds.
    pub service_time: f64,
    /// The quantile of the goal, of the same.
    pub quantile: f64,
    /// Requests/s that one was seen to get done.
    pub pace: f64,
    /// No more can be had of one.
    pub limited: bool,
    /// From the order of one until it was ready, in seconds; `None`: too few were started.
    pub lead_time: Option<f64>,
}

/// The same in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub at: Wall,
    /// What the backends were, in short.
    pub of: String,
    pub learned: Learned,
}

impl Learned {
    /// Nothing that would make a decision another one.
    pub fn is_like(&self, other: &Self) -> bool {
        let alike = |a: f64, b: f64| (a - b).abs() <= ALIKE * a.abs().max(b.abs());
        let leads = [self, other].map(|learned| learned.lead_time.unwrap_or(0.0));
        self.limited == other.limited
            && alike(self.service_time, other.service_time)
            && alike(self.quantile, other.quantile)
            && alike(self.pace, other.pace)
            && alike(leads[0], leads[1])
    }

    /// Numbers that something can be divided by; a file may have others.
    fn is_sane(&self) -> bool {
        let numbers = [self.service_time, self.quantile, self.pace, self.lead_time.unwrap_or(1.0)];
        numbers.iter().all(|number| number.is_finite() && *number > 0.0)
    }
}

impl Kept {
    /// As far as it holds for these backends, now.
    pub fn still(&self, of: &str, now: Wall) -> Option<Learned> {
        let age = Duration::from_millis(now.0.saturating_sub(self.at.0));
        (self.of == of && age <= MOST_AGE && self.learned.is_sane()).then_some(self.learned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEARNED: Learned = Learned {
        service_time: 0.1,
        quantile: 0.25,
        pace: 40.0,
        limited: true,
        lead_time: Some(12.5),
    };

    #[test]
    fn it_holds_for_a_week_and_the_same_backends() {
        let kept = Kept { at: Wall(1000), of: "a".to_owned(), learned: LEARNED };
        let week = MOST_AGE.as_millis() as u64;
        assert_eq!(kept.still("a", Wall(1000 + week)), Some(LEARNED));
        assert_eq!(kept.still("a", Wall(1001 + week)), None);
        assert_eq!(kept.still("b", Wall(1000)), None);
        let bad = Kept { learned: Learned { pace: 0.0, ..LEARNED }, ..kept };
        assert_eq!(bad.still("a", Wall(1000)), None);
    }

    #[test]
    fn a_tenth_is_no_news_and_a_limit_is() {
        assert!(LEARNED.is_like(&Learned { pace: 42.0, ..LEARNED }));
        assert!(!LEARNED.is_like(&Learned { pace: 60.0, ..LEARNED }));
        assert!(!LEARNED.is_like(&Learned { limited: false, ..LEARNED }));
        assert!(!LEARNED.is_like(&Learned { lead_time: None, ..LEARNED }));
    }
}
