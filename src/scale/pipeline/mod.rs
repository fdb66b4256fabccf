//! From wishes to one number, in fixed order. Each stage is a small pure function in its own file.
//!
//! The order is that of [`STAGES`]; it is the HPA's where the HPA has the stage. A stage sees
//! the number so far and answers with another one and a reason, or with nothing.

mod budget;
mod clamp;
mod cooldown;
mod floors;
mod health_gate;
mod limits;
mod mode;
mod operator;
mod projection;
mod stabilization;
mod validity;

#[cfg(test)]
pub(crate) mod tests;

use crate::clock::Micros;
use crate::config::types::Scaling;

use super::memory::Memory;
use super::record::{Proposed, Reason, Stage};
use super::schedule::Scheduled;
use super::{Override, Sample};

/// Everything a stage may look at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub now: Micros,
    pub sample: &'a Sample,
    pub params: &'a Scaling,
    pub memory: &'a Memory,
    /// The size wanted until now.
    pub from: u32,
    pub proposals: &'a [Proposed],
    /// The largest wish.
    pub winner: Option<&'a Proposed>,
    /// Capacity below which the policies' present demand would not fit; `None` where nobody can tell.
    pub needs: Option<u32>,
    /// A policy that can tell without requests, or a schedule, wants some.
    pub asked: bool,
    pub operator: Option<Override>,
    /// What schedules ask for now. Their bounds are in `params` already.
    pub scheduled: Scheduled,
}

impl View<'_> {
    /// Capacity that is meant to be there: the wanted size without the broken ones.
    pub fn capacity(&self) -> u32 {
        self.from.saturating_sub(self.sample.counts.broken())
    }

    /// Why nothing can be decided at all, if so.
    pub fn blind(&self) -> Option<Reason> {
        if self.memory.stale > validity::MAX_STALE {
            return Some(Reason::Stale);
        }
        let silent = !self.proposals.is_empty() && self.proposals.iter().all(|p| !p.valid);
        silent.then_some(Reason::MetricMissing)
    }
}

/// A stage's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub to: u32,
    pub reason: Reason,
    pub until: Option<Micros>,
}

/// A stage that changed the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub stage: Stage,
    pub from: u32,
    pub change: Change,
}

/// What the pipeline came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub to: u32,
    pub moves: Vec<Move>,
    /// What went into stabilization: the wish without limits in time.
    pub wish: u32,
}

type Apply = fn(u32, &View<'_>) -> Option<Change>;

/// The pipeline. Floors of schedules and forecasts come between validity and the health gate.
pub const STAGES: [(Stage, Apply); 12] = [
    (Stage::Validity, validity::apply),
    (Stage::Floors, floors::apply),
    (Stage::HealthGate, health_gate::apply),
    (Stage::Tolerance, tolerance),
    (Stage::Stabilization, stabilization::apply),
    (Stage::Limits, limits::apply),
    (Stage::Cooldown, cooldown::apply),
    (Stage::Clamp, clamp::apply),
    (Stage::Budget, budget::apply),
    (Stage::Projection, projection::apply),
    (Stage::Operator, operator::apply),
    (Stage::Mode, mode::apply),
];

/// Runs all stages, or all but one.
pub fn run(view: &View<'_>, without: Option<Stage>) -> Verdict {
    let wish = view.winner.map_or(view.capacity(), |winner| winner.wanted);
    let mut verdict = Verdict { to: wish, moves: Vec::new(), wish };
    for (stage, apply) in STAGES {
        if stage == Stage::Stabilization {
            verdict.wish = verdict.to;
        }
        if Some(stage) == without {
            continue;
        }
        if let Some(change) = apply(verdict.to, view).filter(|change| change.to != verdict.to) {
            verdict.moves.push(Move { stage, from: verdict.to, change });
            verdict.to = change.to;
        }
    }
    verdict
}

/// The largest wish; of equal ones the first that is not held.
pub fn winner(proposals: &[Proposed]) -> Option<&Proposed> {
    proposals.iter().reduce(|best, next| {
        if (next.n, next.held.is_none()) > (best.n, best.held.is_none()) { next } else { best }
    })
}

/// A wish that its policy itself holds back: within the tolerance, or turned by silent backends.
fn tolerance(n: u32, view: &View<'_>) -> Option<Change> {
    let reason = view.winner.filter(|winner| winner.valid)?.held?;
    (n != view.from).then_some(Change { to: view.from, reason, until: None })
}
