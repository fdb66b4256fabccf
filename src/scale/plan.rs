//! From a number to orders: whom to bring back, how many to start, whom to call off or drain.

use std::sync::Arc;

/// What the control plane is to do. Idempotent: the same sample and size give the same plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Grows with every change; older plans are refused by orchestrators.
    pub generation: u64,
    /// Backends that are meant to exist, without the draining ones. What an orchestrator is told
    /// is this number plus the draining ones it still has.
    pub size: u32,
    /// Draining ones to bring back first.
    pub undrain: Vec<Arc<str>>,
    /// New ones to order now (at most `max_surge` starting at once).
    pub start: u32,
    /// Starting ones to stop; they serve nobody.
    pub cancel: Vec<Arc<str>>,
    /// Ready ones to drain, then to stop.
    pub drain: Vec<Arc<str>>,
}

impl Plan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.undrain.is_empty()
            && self.start == 0
            && self.cancel.is_empty()
            && self.drain.is_empty()
    }
}
