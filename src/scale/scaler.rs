//! The scaler of one service: its state, and one tick from observation to record.

use std::sync::Arc;

use crate::clock::Micros;
use crate::config::types::Scaling;

use super::record::{Outcome, Record};
use super::{Override, Plan, Sample, Wanted};

/// Decides for one service. Holds history and nothing that talks to the world.
#[derive(Debug)]
pub struct Scaler {
    service: Arc<str>,
    params: Scaling,
}

/// What one tick came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tick {
    /// What to do; `None` in modes that do nothing.
    pub plan: Option<Plan>,
    /// For the journal.
    pub record: Option<Record>,
    /// The outcome of an earlier record, by its seq.
    pub outcome: Option<(u64, Outcome)>,
}

/// What `/v1/services/NAME/scaling` shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    pub desired: u32,
    /// The last stage that changed the number in the last tick.
    pub limited_by: Option<super::Stage>,
    pub cooldown_until: Option<Micros>,
    pub operator: Option<Override>,
    /// (policy, n) of the last tick.
    pub proposals: Vec<(String, u32)>,
}

impl Scaler {
    /// `next_seq`: one more than the last record of the journal (1 without one).
    pub fn new(service: Arc<str>, params: Scaling, _next_seq: u64) -> Self {
        Self { service, params }
    }

    /// The signals that every sample must carry.
    pub fn wanted(&self) -> Vec<Wanted> {
        unimplemented!()
    }

    /// One decision. The time is the sample's.
    pub fn tick(&mut self, _sample: &Sample) -> Tick {
        unimplemented!()
    }

    /// Takes new parameters and keeps the history.
    pub fn reconfigure(&mut self, params: Scaling) {
        self.params = params;
    }

    /// Pins or pauses; `None` ends it.
    pub fn set_override(&mut self, _operator: Option<Override>) {
        unimplemented!()
    }

    pub fn status(&self) -> &Status {
        unimplemented!()
    }
}
