//! Refusals worth a record: when one begins, or its reason changes; not every tick of it.

use crate::clock::Micros;

use super::pipeline::{Verdict, View};
use super::record::{Action, Reason, Record};

/// A refusal that pauses for less than this goes on, it does not begin again.
const QUIET: Micros = 60_000_000;

/// The refusal that goes on now.
#[derive(Debug, Clone, Default)]
pub struct Refusals {
    told: Option<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    reason: Reason,
    up: bool,
    /// When it was last the case.
    last: Micros,
}

impl Refusals {
    /// The action to record, if this tick refuses something in a new way.
    pub fn news(&self, view: &View<'_>, verdict: &Verdict) -> Option<Action> {
        let (wanted, reason) = refused(view.from, verdict)?;
        let up = wanted > view.from;
        if self.told.is_some_and(|told| told.reason == reason && told.up == up) {
            return None;
        }
        Some(match reason {
            Reason::DryRun => Action::DryRun { from: view.from, to: wanted },
            reason => Action::Refuse { at: view.from, wanted, reason },
        })
    }

    /// Keeps track, after the decision.
    pub fn note(&mut self, now: Micros, verdict: &Verdict, from: u32, record: Option<&Record>) {
        let current = refused(from, verdict);
        if let Some((wanted, reason)) = current {
            let told = Told { reason, up: wanted > from, last: now };
            let same = self.told.is_some_and(|t| (t.reason, t.up) == (told.reason, told.up));
            if same || record.is_some() {
                self.told = Some(told);
            }
        } else if verdict.to != from || self.told.is_some_and(|told| told.last + QUIET <= now) {
            self.told = None;
        }
    }
}

/// What was wanted and not done, and why. Wanting fewer than `min` is no wish that anyone refused.
fn refused(from: u32, verdict: &Verdict) -> Option<(u32, Reason)> {
    if verdict.to != from {
        return None;
    }
    let last = verdict.moves.last()?;
    match last.change.reason {
        // Without data there is no wish; that nothing is decided is the news.
        reason @ Reason::Stale => Some((from, reason)),
        Reason::AtMin | Reason::Off | Reason::Tolerance | Reason::BrokenBackends => None,
        reason @ Reason::DryRun => Some((last.from, reason)),
        reason if verdict.wish != from => Some((verdict.wish, reason)),
        _ => {
            let first = verdict.moves.first()?;
            (first.from != from && first.change.reason == Reason::MetricMissing)
                .then_some((first.from, Reason::MetricMissing))
        }
    }
}
