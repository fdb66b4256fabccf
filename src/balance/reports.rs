//! Load that backends report of themselves, as a factor of what `adaptive` and `p2c_ewma` compare.
//!
//! It is how far a backend's utilization is above the mean of all that report: `(u + 0.1) ÷ (mean + 0.1)`, from 1 to
//! 4. The 0.1 keeps pools calm that do next to nothing, where twice as much is nothing as well. As with slowness
//! nobody gains by it: a backend that says it is idle may have just started, or lie. What it says is worth
//! less the older it is (e^(−age ÷ 10 s)): it only says more when it is asked, so one that was avoided for its
//! last word must come to be asked again. Who does not report counts as the mean.

use crate::clock::Micros;
use crate::upstream::backend::Backend;

use super::Pool;

/// How long a mean is used, in µs.
const COUNT_EVERY: Micros = 100_000;
/// Utilization that makes no difference.
const CALM: f32 = 0.1;
/// What one that is busier costs at most: what is measured may go further than what is only said.
const MOST: f32 = 4.0;
/// How fast a report loses its weight, in µs.
const TAU: f32 = 10_000_000.0;

/// What one worker knows of the reports of a service.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// `None`: fewer than two report.
    pub(super) mean: Option<f32>,
    counted: Option<Micros>,
}

impl Reports {
    /// Counts again if the last count is old.
    #[inline]
    pub(super) fn refresh(&mut self, pool: &Pool<'_>, now: Micros) {
        let fresh = |at| (at..at + COUNT_EVERY).contains(&now);
        if self.counted.is_some_and(fresh) {
            return;
        }
        let serving = pool.members.iter().map(|m| &m.backend).filter(|b| b.gate.is_available());
        let loads = serving.filter_map(|backend| backend.reported.believed(now));
        let (n, sum) = loads.fold((0_u32, 0.0), |(n, sum), load| (n + 1, sum + load.utilization));
        self.mean = (n > 1).then(|| sum / n as f32);
        self.counted = Some(now);
    }
}

/// What a backend's load is multiplied with, 1..=4.
pub(super) fn factor(backend: &Backend, mean: f32, now: Micros) -> f32 {
    let Some(load) = backend.reported.believed(now) else { return 1.0 };
    let above = ((load.utilization + CALM) / (mean + CALM)).min(MOST) - 1.0;
    if above <= 0.0 {
        return 1.0;
    }
    1.0 + above * (-(load.age as f32) / TAU).exp()
}
