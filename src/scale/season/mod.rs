//! What came at this time yesterday and a week ago, for a service whose load repeats itself.
//!
//! A step that comes every morning at nine is known before it comes; backends for it can be there in
//! time. So each window of 5 minutes leaves one number, for 8 days, and [`Season::expects`] tells what
//! is to come until a backend that is ordered now is ready. It is asked for rises only: whoever needs
//! more can be given more, and a wrong expectation costs backends and never requests.
//!
//! Nothing is expected before that was proven, see `proof`. Time is passed in; the number of backends
//! and files are left to others.

mod file;
mod proof;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Wall;

pub use file::{line, read_back};

/// Milliseconds of a window.
const WINDOW: u64 = 5 * 60_000;
/// Windows of a day and of a week, and those that are kept.
const DAY: u64 = 288;
const WEEK: u64 = 7 * DAY;
const KEPT: u64 = 8 * DAY;
/// Seconds of a window that must have been seen.
const LEAST: f64 = 240.0;
/// Seconds of which the busiest count, and standard errors that are taken off them: as the level of `slo`.
const BUSIEST: f64 = 30.0;
const SIGMAS: f64 = 3.0;
/// A window with this much more than the one before it is a rise. What grows slower is followed in time, within
/// the head-room.
const RISE: f64 = 1.2;
/// Windows by which the load of today is compared with the one of then, and those of them that must be known.
const COMPARED: u64 = 6;
const LEAST_COMPARED: usize = 3;
/// Nobody looks further ahead than this.
const MOST_LEAD: Duration = Duration::from_secs(3600);

/// One window that is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// When it began.
    pub from: Wall,
    /// Requests/s: its mean, or that of its busiest 30 s where they are busier beyond Poisson noise.
    pub rate: f64,
}

/// What is to come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Requests/s at that time then.
    pub came: f64,
    /// Of it, since the last half hour was quieter than then; at most 1.
    pub share: f64,
    /// 1: yesterday, 7: last week.
    pub days: u64,
}

/// The last 8 days of one service.
#[derive(Debug, Clone, Default)]
pub struct Season {
    /// Rate of each window by its number modulo [`KEPT`]; NaN: not known. Empty before the first one is over.
    rates: Vec<f32>,
    /// Number of the newest one that is over: windows since 1970.
    newest: u64,
    present: Present,
    /// That it may be believed.
    proven: bool,
}

/// The window that is not over.
#[derive(Debug, Clone, Copy, Default)]
struct Present {
    number: u64,
    seconds: f64,
    arrivals: f64,
    /// Seconds and arrivals of the 30 s that are not over.
    part: (f64, f64),
    /// The busiest 30 s, in requests/s.
    peak: f64,
}

impl Season {
    /// Adds what came in the `span` that ends at `wall`; returns the window that is over with it.
    pub fn add(&mut self, wall: Wall, span: Duration, arrivals: f64) -> Option<Window> {
        let number = wall.0.saturating_sub(1) / WINDOW;
        let mut over = None;
        if number != self.present.number {
            over =
                std::mem::take(&mut self.present).over().filter(|_| number > self.present.number);
            self.present.number = number;
        }
        self.present.add(span.as_secs_f64(), arrivals);
        if let Some(window) = over {
            self.put(&window);
            self.prove();
        }
        over
    }

    /// Goes on with windows of before a restart.
    pub fn recall(&mut self, windows: impl IntoIterator<Item = Window>) {
        windows.into_iter().for_each(|window| self.put(&window));
        self.prove();
    }

    /// The most that is to come from now until `lead` has passed, if it is a rise that the last window knew nothing
    /// of, and if expectations came true before.
    pub fn expects(&self, now: Wall, lead: Duration) -> Option<Expected> {
        let (first, last) = (now.0 / WINDOW, now.plus(lead.min(MOST_LEAD)).0 / WINDOW);
        let passed = first.checked_sub(1).filter(|_| self.proven)?;
        let least = RISE * self.get(passed)?;
        // With the one before: today may be a little later.
        let windows = first.min(last.saturating_sub(1))..=last;
        windows
            .filter_map(|window| self.forecast(window, passed))
            .filter(|expected| expected.rate() >= least)
            .max_by(|a, b| a.rate().total_cmp(&b.rate()))
    }

    /// What a window will bring, by all until `known`.
    fn forecast(&self, window: u64, known: u64) -> Option<Expected> {
        [(1, DAY), (7, WEEK)]
            .into_iter()
            .filter_map(|(days, lag)| {
                let came = self.get(window.checked_sub(lag)?)?;
                Some(Expected { came, share: self.share(lag, known)?, days })
            })
            .max_by(|a, b| a.rate().total_cmp(&b.rate()))
    }

    /// Today's load as a share of the one of then, over the last half hour or the last window, whichever is less;
    /// at most 1.
    fn share(&self, lag: u64, known: u64) -> Option<f64> {
        let windows = known.checked_sub(COMPARED + lag - 1)?..=known - lag;
        let pairs = windows.filter_map(|then| Some((self.get(then + lag)?, self.get(then)?)));
        let (n, now, then) =
            pairs.fold((0, 0.0, 0.0), |(n, a, b), (now, then)| (n + 1, a + now, b + then));
        let last = (self.get(known)?, self.get(known - lag)?);
        let of = |(now, then): (f64, f64)| if now < then { now / then } else { 1.0 };
        (n >= LEAST_COMPARED).then(|| of((now, then)).min(of(last)))
    }

    fn get(&self, number: u64) -> Option<f64> {
        let is_kept = number <= self.newest && number + KEPT > self.newest;
        let rate = self.rates.get((number % KEPT) as usize).filter(|_| is_kept)?;
        (!rate.is_nan()).then_some(f64::from(*rate))
    }

    fn put(&mut self, window: &Window) {
        let number = window.from.0 / WINDOW;
        if !(window.rate.is_finite() && window.rate >= 0.0) {
            return;
        }
        // The clock was set, by days.
        if self.rates.is_empty() || number.abs_diff(self.newest) >= KEPT {
            self.rates = vec![f32::NAN; KEPT as usize];
            self.newest = number;
        }
        for passed in self.newest + 1..number {
            self.rates[(passed % KEPT) as usize] = f32::NAN;
        }
        self.rates[(number % KEPT) as usize] = window.rate as f32;
        self.newest = self.newest.max(number);
    }
}

impl Expected {
    /// Requests/s.
    pub fn rate(&self) -> f64 {
        self.came * self.share
    }
}

impl Present {
    fn add(&mut self, seconds: f64, arrivals: f64) {
        self.seconds += seconds;
        self.arrivals += arrivals;
        self.part = (self.part.0 + seconds, self.part.1 + arrivals);
        if self.part.0 >= BUSIEST {
            self.peak = self.peak.max(self.part.1 / self.part.0);
            self.part = (0.0, 0.0);
        }
    }

    /// `None` where too little of it was seen.
    fn over(self) -> Option<Window> {
        let mean = self.arrivals / self.seconds;
        let sure = self.peak - SIGMAS * (self.peak.max(1.0) / BUSIEST).sqrt();
        let from = Wall(self.number * WINDOW);
        (self.seconds >= LEAST).then(|| Window { from, rate: mean.max(sure) })
    }
}
