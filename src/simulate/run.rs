//! One policy against one load: second by second, on the fluid.

use super::fleet::Fleet;
use super::fluid::Fluid;
use super::load::Load;
use super::policy::{Policy, Seen};
use super::score::{Point, Score};
use super::setting::Setting;

/// What every policy of a trial meets.
#[derive(Debug, Clone, Copy)]
pub struct Course<'a> {
    pub setting: &'a Setting,
    pub load: &'a Load,
    /// Drawn from the load, for each second.
    pub arrivals: &'a [f64],
    /// The oracle's size of each second.
    pub needs: &'a [u32],
}

/// Runs a policy over a course; `watch` sees every second.
pub fn fluid(course: &Course<'_>, policy: &mut dyn Policy, mut watch: impl FnMut(&Point)) -> Score {
    let Course { setting, load, arrivals, needs } = *course;
    let mut fleet = Fleet::new(setting.start(load.rates.first().copied().unwrap_or(0.0)));
    let mut fluid = Fluid::default();
    let mut score = Score::default();
    for (second, (arrived, need)) in arrivals.iter().zip(needs).enumerate() {
        fleet.advance(second as f64);
        if let Some(size) = policy.foresee(load.rates[second]) {
            fleet.set(size);
        }
        score.decided(fleet.size());
        let passed = fluid.pass(setting, *arrived, fleet.ready(), &mut score.waits);
        let point = Point {
            arrivals: *arrived,
            served: passed.served,
            dropped: passed.dropped,
            late: passed.late,
            queued: passed.queued,
            ready: fleet.ready(),
            paid: fleet.size(),
            need: *need,
        };
        score.add(&point);
        watch(&point);
        let size = policy.tick(&Seen {
            second: second as u64,
            arrivals: *arrived,
            busy: passed.served * setting.service,
            queued: passed.queued,
            dropped: passed.dropped,
            ready: fleet.ready(),
            size: fleet.size(),
            lead: setting.lead,
            blocked: 0.0,
        });
        fleet.resize(size.min(setting.max), second as f64 + setting.lead);
    }
    score.finish()
}
