//! What requests may expect of the scaler: while it brings capacity, and soon, they had better wait than be turned away
//! (`upstream::admission`, `proxy::patience`).

use crate::clock::Micros;
use crate::config::types::ScalingMode;
use crate::scale::Scaler;

use super::core::Control;
use super::lock;
use super::managed::Managed;

impl Control {
    /// After a decision; `before`: the size before it.
    ///
    /// Capacity is expected for twice as long as a start takes and four times as long as a request would wait for it: then
    /// new backends have done what waited. In calm it is for the time to the next decision, if that could be to grow: an
    /// overload that begins is not to turn away what this decision would have served.
    pub(super) fn expect_growth(
        &self,
        managed: &Managed,
        scaler: &Scaler,
        before: u32,
        now: Micros,
    ) {
        let registry = lock(&self.registry);
        let Some(pool) = registry.pool(&managed.service) else { return };
        let patience = pool.config().overload.patience();
        // What takes longer than a request waits is not for those that wait now.
        let Some(lead) = pool.lead_time().filter(|lead| *lead <= patience) else { return };
        let (size, most) = (managed.size(), scaler.bounds().1);
        let is_calm = !pool.admission().is_on() && pool.queued() == 0;
        let (size, wait) = if size > before {
            (size, lead * 2 + patience * 4)
        } else if is_calm && may_grow(scaler) && size < most && scaler.params().interval <= patience
        {
            (most, scaler.params().interval * 2)
        } else {
            return;
        };
        let available = pool.entries().filter(|entry| entry.is_available()).count();
        let times = f64::from(size) / available.max(1) as f64;
        pool.admission().expect(times, now + wait.as_micros() as Micros);
    }
}

/// Whether what the policies want is done.
fn may_grow(scaler: &Scaler) -> bool {
    let acts = matches!(scaler.params().mode, ScalingMode::On | ScalingMode::UpOnly);
    acts && scaler.status().operator.is_none()
}
