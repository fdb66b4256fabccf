//! How many backends there were during a load, and what happened to them.
//!
//! Whoever watches a running tidegate fills this in; the verdict and the chart read it. Times
//! are seconds since the start of the load, and may lie before or after it.

use serde::Serialize;

/// Longest time between two looks that is no gap, in seconds.
pub const GAP_S: f64 = 3.0;

/// What was seen of one service.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sizes {
    pub service: String,
    /// About one a second, in order.
    pub looks: Vec<Look>,
    /// In order.
    pub marks: Vec<Mark>,
    /// Times a backend ended by itself.
    pub crashed: u64,
    /// Times a backend stopped being healthy.
    pub unhealthy: u64,
    /// Some events were not heard of: the numbers above may be too small.
    pub missed_events: bool,
}

/// How many backends there were at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Look {
    pub at_s: f64,
    /// Ready, healthy and not ejected.
    pub ready: u32,
    /// Of any state, also starting and draining.
    pub total: u32,
    /// What the scaler wants; without one, the backends that the configuration has.
    pub desired: u32,
    /// The most that the scaler may want; `None` without one.
    pub max: Option<u32>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    pub at_s: f64,
    pub kind: MarkKind,
    /// What and why, for people.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// The scaler wanted more.
    Up,
    /// The scaler wanted fewer.
    Down,
    /// A backend ended by itself.
    Crash,
    /// A backend stopped being healthy.
    Unhealthy,
    /// The scaler wanted more and was held back, by its max or a limit.
    Held,
    /// A backend that went away by itself was replaced.
    Replaced,
}

impl Sizes {
    /// The most that were wanted.
    pub fn most_desired(&self) -> u32 {
        self.looks.iter().map(|look| look.desired).max().unwrap_or(0)
    }

    /// The most that were ready.
    pub fn most_ready(&self) -> u32 {
        self.looks.iter().map(|look| look.ready).max().unwrap_or(0)
    }

    /// Whether as many were ready as were ever wanted; `None` if nothing was seen.
    pub fn reached(&self) -> Option<bool> {
        (!self.looks.is_empty()).then(|| self.most_ready() >= self.most_desired())
    }

    /// Times in the first `seconds` in which nothing was seen, from and to.
    pub fn gaps(&self, seconds: f64) -> Vec<(f64, f64)> {
        let within = self.looks.iter().map(|look| look.at_s).filter(|at| *at < seconds);
        let times: Vec<f64> = [0.0].into_iter().chain(within).chain([seconds]).collect();
        let pairs = times.windows(2).map(|pair| (pair[0].max(0.0), pair[1]));
        pairs.filter(|(from, to)| to - from > GAP_S).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(looks: &[(f64, u32, u32)]) -> Sizes {
        let look = |&(at_s, ready, desired)| Look { at_s, ready, total: ready, desired, max: None };
        Sizes { looks: looks.iter().map(look).collect(), ..Sizes::default() }
    }

    #[test]
    fn the_highest_wish_has_to_be_met_at_some_time() {
        assert_eq!(sizes(&[]).reached(), None);
        assert_eq!(sizes(&[(0.0, 2, 2), (1.0, 2, 6), (2.0, 5, 6)]).reached(), Some(false));
        assert_eq!(
            sizes(&[(0.0, 2, 2), (1.0, 2, 6), (2.0, 6, 6), (3.0, 2, 2)]).reached(),
            Some(true)
        );
    }

    #[test]
    fn gaps_are_times_without_a_look() {
        assert_eq!(sizes(&[(-0.5, 2, 2), (0.5, 2, 2), (1.5, 2, 2)]).gaps(2.0), []);
        assert_eq!(sizes(&[(0.5, 2, 2), (8.0, 2, 2)]).gaps(20.0), [(0.5, 8.0), (8.0, 20.0)]);
        assert_eq!(sizes(&[]).gaps(5.0), [(0.0, 5.0)]);
    }
}
