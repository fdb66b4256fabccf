//! What the control plane does for the limits of routes: forgets clients that are as good as new.

use super::core::Control;

impl Control {
    /// Once a second.
    pub(super) fn sweep_limits(&self) {
        let snapshot = self.plane.current();
        for limits in snapshot.routes.iter().filter_map(|route| route.limits.as_ref()) {
            limits.rates().iter().for_each(|rate| rate.limit.sweep());
        }
    }
}
