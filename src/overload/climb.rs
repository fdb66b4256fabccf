//! Whether a larger limit brings more, or a smaller one as much.
//!
//! All backends try together, so that enough answers tell. A trial lasts one group, and is measured against the one
//! before it. What succeeds is tried again at once.
//!
//! A larger limit costs nothing while it is tried, a smaller one costs answers, and counts are too noisy to see whether it
//! would cost a few percent for good. So less is tried where requests take longer than the limits explain, and else rarely.

use super::group::Totals;

/// Standard deviations of a count that a gain must be above, and that a trial must be able to bring.
const SIGMAS: f64 = 1.5;
const SEEN: f64 = 3.0;
const SEEN_LESS: f64 = 2.0;
/// Trials with more before one with less, where nothing asks for that.
const MORES: u32 = 6;
/// Groups between trials, and most of them, after trials that brought nothing.
const REST: u32 = 3;
const REST_MOST: u32 = 12;
/// Least that is tried as more: with few answers only much more can be seen to bring anything.
const MORE: f64 = 1.25;
const MORE_MAX: f64 = 3.0;
/// Most that is tried as less, and least.
const LESS: f64 = 0.88;
const LESS_MIN: f64 = 0.5;
/// A larger limit has to bring this share of what it adds, a smaller one may cost this share of what it takes.
const BRINGS: f64 = 0.5;
const COSTS: f64 = 0.1;

/// What a group tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trial {
    #[default]
    None,
    More,
    Less,
}

/// How long requests take under the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// As long as those limits make them.
    Expected,
    /// Longer: the limits may be too large.
    Long,
    /// So long that the limits do not seem to be what matters.
    Doubtful,
}

/// What becomes of all knees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    Stay,
    /// By so much.
    Up(f64),
    Down(f64),
}

#[derive(Debug, Default)]
pub(super) struct Climb {
    trial: Trial,
    /// Trials with more since the last with less.
    mores: u32,
    /// What knees are multiplied with when more is tried, and when less is.
    more: f64,
    less: f64,
    rested: u32,
    pause: u32,
    /// Throughput without a trial, and how many backends gave it.
    base: f64,
    serving: f64,
    places: f64,
}

impl Climb {
    pub fn trial(&self) -> Trial {
        self.trial
    }

    /// What knees are multiplied with for now.
    pub fn scale(&self) -> f64 {
        match self.trial {
            Trial::None => 1.0,
            Trial::More => self.more,
            Trial::Less => self.less,
        }
    }

    /// Nothing kept requests back in a group.
    pub fn was_enough(&mut self) -> Step {
        let trial = self.trial;
        self.rest();
        if trial == Trial::More { Step::Up(self.more) } else { Step::Stay }
    }

    fn rest(&mut self) {
        (self.trial, self.rested) = (Trial::None, 0);
    }

    /// A group under binding limits is whole.
    /// `places`: the sum of the limits in it. `takes`: how long requests did.
    pub fn judge(&mut self, totals: &Totals, places: f64, takes: Takes) -> Step {
        let throughput = totals.throughput();
        if totals.changed || (totals.serving - self.serving).abs() > 0.01 * self.serving {
            // Nothing to compare with.
            self.pause = REST;
            self.rest();
        }
        // Counts vary by their roots; a gain must be more than that.
        let noise = SIGMAS * (2.0 / totals.done.max(1) as f64).sqrt();
        let tried = places / self.places.max(1.0) - 1.0;
        let (more, less) = ((BRINGS * tried).max(noise), (COSTS * -tried).max(noise / 3.0));
        let step = match self.trial {
            Trial::None => {
                let share = if self.rested == 0 { 1.0 } else { 0.5 };
                self.base += share * (throughput - self.base);
                (self.serving, self.places) = (totals.serving, places);
                self.rested += 1;
                // In the first group there are some that met what was tried before.
                let takes = if self.rested > 1 { takes } else { Takes::Expected };
                let doubtful = takes == Takes::Doubtful;
                let pause = if doubtful { 2 } else { self.pause.max(REST) };
                if self.rested >= pause {
                    self.begin(totals.done, takes);
                }
                return Step::Stay;
            }
            Trial::More if throughput >= self.base * (1.0 + more) => Step::Up(self.more),
            Trial::Less if throughput >= self.base * (1.0 - less) => Step::Down(self.less),
            Trial::More | Trial::Less => Step::Stay,
        };
        if step != Step::Stay {
            self.pause = REST;
        }
        match step {
            Step::Stay => {
                self.pause = (self.pause.max(REST) * 2).min(REST_MOST);
                self.rest();
            }
            // Again, from here.
            Step::Up(_) => (self.base, self.places) = (throughput, places),
            Step::Down(_) => self.places = places,
        }
        step
    }

    fn begin(&mut self, answers: u64, takes: Takes) {
        let noise = (2.0 / answers.max(1) as f64).sqrt();
        let more = (1.0 + SEEN * noise).clamp(MORE, MORE_MAX);
        self.more = if takes == Takes::Doubtful { MORE_MAX } else { more };
        self.less = (1.0 - SEEN_LESS * noise).clamp(LESS_MIN, LESS);
        let mores = match takes {
            Takes::Doubtful => u32::MAX,
            Takes::Long => 1,
            Takes::Expected => MORES,
        };
        self.trial = if self.mores >= mores { Trial::Less } else { Trial::More };
        self.mores = if self.trial == Trial::Less { 0 } else { self.mores.saturating_add(1) };
    }
}

impl Step {
    pub fn factor(self) -> f64 {
        match self {
            Self::Stay => 1.0,
            Self::Up(more) => more,
            Self::Down(less) => less,
        }
    }
}
