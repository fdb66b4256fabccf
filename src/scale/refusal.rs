//! Refusals worth a record: when one begins, or its reason changes; not every tick of it.

use crate::clock::Micros;
use crate::config::types::ScalingMode;

use super::pipeline::{Verdict, View};
use super::record::{Action, Reason};

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
        let (wanted, reason) = refused(view, verdict)?;
        let up = wanted > view.from;
        if self.told.is_some_and(|told| told.reason == reason && told.up == up) {
            return None;
        }
        Some(match reason {
            Reason::DryRun => Action::DryRun { from: view.from, to: wanted },
            reason => Action::Refuse { at: view.from, wanted, reason },
        })
    }

    /// The refusals after this tick; `told`: it was recorded.
    pub fn after(&self, view: &View<'_>, verdict: &Verdict, told: bool) -> Self {
        let current = refused(view, verdict).map(|(wanted, reason)| Told {
            reason,
            up: wanted > view.from,
            last: view.now,
        });
        let Some(current) = current else {
            let told = self.told.filter(|told| told.last + QUIET > view.now);
            return Self { told };
        };
        let same = self.told.is_some_and(|t| (t.reason, t.up) == (current.reason, current.up));
        if same || told { Self { told: Some(current) } } else { self.clone() }
    }
}

/// What was wanted and not done, and why. Wanting fewer than `min` is no wish that anyone refused.
fn refused(view: &View<'_>, verdict: &Verdict) -> Option<(u32, Reason)> {
    if verdict.to != view.from || view.params.mode == ScalingMode::Off {
        return None;
    }
    // Without data there is no wish; that nothing can be decided is the news.
    if let Some(reason) = view.blind() {
        return Some((view.from, reason));
    }
    let last = verdict.moves.last()?;
    match last.change.reason {
        Reason::AtMin
        | Reason::Awake
        | Reason::Idle
        | Reason::Tolerance
        | Reason::BrokenBackends => None,
        Reason::DownstreamBound => Some((view.winner?.wanted, last.change.reason)),
        Reason::DryRun => Some((last.from, Reason::DryRun)),
        Reason::MetricMissing | Reason::StaleUpOnly => Some((last.from, last.change.reason)),
        // Below `min` nothing is removed, whatever else holds it.
        reason if verdict.wish.max(view.params.min) != view.from => Some((verdict.wish, reason)),
        _ => None,
    }
}
