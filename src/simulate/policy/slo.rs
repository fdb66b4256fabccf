//! Our own `slo`, the policy alone: the same code as in the running scaler, without its pipeline.
//!
//! Slots, service time and lead time are given; what the running one has to learn is no part of this.

use crate::scale::slo::{Params, Signals, Slo};

use super::{Policy, Seen, Setting};

#[derive(Debug)]
pub struct SloPolicy {
    slo: Slo,
    setting: Setting,
}

impl SloPolicy {
    pub fn new(setting: &Setting, params: Params) -> Self {
        Self { slo: Slo::new(params), setting: setting.clone() }
    }
}

impl Policy for SloPolicy {
    fn tick(&mut self, seen: &Seen) -> u32 {
        let decision = self.slo.tick(&Signals {
            arrivals: seen.arrivals,
            queued: seen.queued,
            ready: seen.ready,
            spec: seen.size,
            lead: seen.lead,
            slots: self.setting.slots,
            service: self.setting.service,
            wait: self.setting.wait,
            season: 0.0,
        });
        decision.n.clamp(self.setting.min, self.setting.max)
    }
}
