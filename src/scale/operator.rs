//! What operators say over the policies' heads: a pinned number or a pause, with an expiry.

use serde::{Deserialize, Serialize};

use crate::clock::Micros;

/// An operator's word; it goes before every policy and is shown as such in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Override {
    /// This many (within min and max), until the moment if there is one.
    Pin { replicas: u32, until: Option<Micros> },
    /// The present size, until the moment if there is one.
    Pause { until: Option<Micros> },
}

impl Override {
    /// When it ends by itself.
    pub fn until(&self) -> Option<Micros> {
        match *self {
            Self::Pin { until, .. } | Self::Pause { until } => until,
        }
    }

    pub fn is_over(&self, now: Micros) -> bool {
        self.until().is_some_and(|until| until <= now)
    }
}
