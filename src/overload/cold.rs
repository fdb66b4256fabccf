//! An overload that was there before us. What requests take in calm cannot be learned then: all that was ever seen had to
//! wait, and is taken for calm.
//!
//! But flows tell. Over a stretch of time, and in both its halves, more comes than is answered; as much is answered in each
//! quarter; as many more are under way in the second half as in the first; and requests take longer and longer, though
//! less than half of the stretch. Where requests only take long, as many are answered as come once the first ones end: until
//! then answers become more, and what is under way grows less. Looked for in the first minute only: later there is a calm
//! to compare with.
//!
//! From three times the capacity on they take more than half of the stretch. Then it is an overload if they took longer than
//! any service without one could make them: while its load and what its requests take stay as they are, those of any age
//! are answered as often as before, and only those that could not have ended yet are new among the answers. So the answers
//! of the second half take longer together than those of the first by no more than what there are more of them, each as
//! long as we are there.

use super::group::Totals;
use super::{Calm, Learner};

/// So long is looked, in seconds.
const COLD: f64 = 60.0;
/// Stretches that are looked at, in seconds, and answers that each half has at least.
const STRETCHES: [f64; 4] = [4.0, 8.0, 16.0, 32.0];
const ANSWERS: u64 = 60;
/// In each half so many more are under way at its end, of those that were answered in it, and so many roots of these.
const GROWS: f64 = 0.1;
const SIGMAS: f64 = 4.0;
/// Requests take so many times as long in the second half as in the first.
const LONGER: f64 = 1.3;
/// Each quarter has as many answers, but for so many deviations, and at most for this share.
const NOISE: f64 = 2.5;
const STEADY: f64 = 0.2;
/// Under way, of those that Little's law would say: more are streams, or downloads by slow clients.
const LITTLE: f64 = 4.0;
/// Of what came to be under way in the first half, in the second; where requests only take long it becomes less.
const LASTS: f64 = 0.85;
/// What requests take in the second half, of the stretch at most.
const SHARE: f64 = 0.5;
/// Standard errors that the seconds of all answers must be above what can be explained.
const SURE: f64 = 3.0;
/// As many requests without company as the first that were seen count for.
const FIRST: f64 = 5.0;

/// The groups so far.
#[derive(Debug, Default)]
pub(super) struct Cold {
    /// Somebody told what calm is.
    pub told: bool,
    seconds: f64,
    groups: Vec<Totals>,
    /// The least mean of a group.
    least: Option<f64>,
    low: u64,
    low_time: f64,
}

/// Of a stretch.
#[derive(Debug, Default, Clone, Copy)]
struct Part {
    span: f64,
    done: u64,
    time: f64,
    first: f64,
    last: f64,
}

impl Cold {
    /// Takes a group in. Some: it is an overload, and that is the best guess of what a request takes in calm.
    pub fn look(&mut self, totals: &Totals, limited: bool, bearable: f64) -> Option<f64> {
        self.seconds += totals.span;
        if self.told || limited || self.seconds > COLD {
            // From now on there is something to compare with.
            *self = Self { told: true, ..Self::default() };
            return None;
        }
        if totals.changed {
            self.groups.clear();
        }
        (self.low, self.low_time) = (self.low + totals.low, self.low_time + totals.low_time);
        if totals.done > 0 {
            let mean = totals.mean();
            self.least = Some(self.least.map_or(mean, |least| least.min(mean)));
        }
        self.groups.push(totals.clone());
        let (least, low) = (self.least?, self.low as f64);
        let calm = (self.low_time + FIRST * least) / (low + FIRST);
        let over = STRETCHES.iter().any(|stretch| self.is_over(*stretch, calm, bearable));
        (over && totals.low_open == 0).then_some(calm)
    }

    /// Whether the last so many seconds are an overload.
    fn is_over(&self, stretch: f64, calm: f64, bearable: f64) -> bool {
        let mut quarters = [Part::default(); 4];
        let mut at = 0;
        for group in self.groups.iter().rev() {
            quarters[at].add(group);
            at += usize::from(quarters[at].span >= 0.25 * stretch - 0.01);
            if at == quarters.len() {
                break;
            }
        }
        let [late, early] = [quarters[0].after(&quarters[1]), quarters[2].after(&quarters[3])];
        let steady = |part: &Part| {
            let off = part.rate() / late.after(&early).rate() - 1.0;
            off.abs() <= (NOISE / (part.done.max(1) as f64).sqrt()).min(STEADY)
        };
        at == quarters.len()
            && late.grows()
            && early.grows()
            && quarters.iter().all(steady)
            && late.rate() <= early.rate() * (1.0 + (2.0 / early.done as f64).sqrt())
            && late.last - late.first >= LASTS * (early.last - early.first)
            && late.mean() >= LONGER * early.mean()
            && late.mean() - calm >= calm.max(bearable)
            && (late.mean() <= SHARE * stretch && late.last <= LITTLE * late.rate() * late.mean()
                || late.waited(&early, self.seconds))
    }
}

impl Part {
    /// This and the one before it.
    fn after(&self, before: &Self) -> Self {
        Self {
            span: self.span + before.span,
            done: self.done + before.done,
            time: self.time + before.time,
            first: before.first,
            last: self.last,
        }
    }

    /// A group before those that were added.
    fn add(&mut self, group: &Totals) {
        if self.span == 0.0 {
            self.last = group.last;
        }
        self.first = group.first;
        self.span += group.span;
        self.done += group.done;
        self.time += group.time;
    }

    /// Whether these answers took longer than the earlier ones by more than what there are more of them could, if none
    /// took longer than `oldest`; see the module.
    fn waited(&self, earlier: &Self, oldest: f64) -> bool {
        let (done, before) = (self.done as f64, earlier.done as f64);
        let more = (done - before).max(0.0) + SURE * (done + before).sqrt();
        self.time - earlier.time >= more * oldest
    }

    fn rate(&self) -> f64 {
        self.done as f64 / self.span.max(1e-9)
    }

    fn mean(&self) -> f64 {
        self.time / self.done.max(1) as f64
    }

    fn grows(&self) -> bool {
        let done = self.done as f64;
        self.done >= ANSWERS && self.last - self.first >= (GROWS * done).max(SIGMAS * done.sqrt())
    }
}

impl Learner {
    /// What is known of a backend's calm.
    pub fn calm_of(&self, uid: u64) -> Option<Calm> {
        let backend = self.backends.get(&uid)?;
        Some(Calm { seconds: backend.usual?, known: backend.known })
    }

    /// Takes that for true, until it knows better.
    pub fn believe(&mut self, uid: u64, calm: Calm) {
        if calm.seconds > 0.0 && calm.seconds.is_finite() && calm.known > 0.0 {
            let backend = self.backends.entry(uid).or_default();
            (backend.usual, backend.known) = (Some(calm.seconds), calm.known);
            self.cold.told = true;
        }
    }
}
