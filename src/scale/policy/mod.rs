//! Scaling policies: each looks at the history and proposes a number with its arithmetic.
//!
//! A policy knows nothing of limits, windows of others or operators: that is the pipeline's.
//! Adding one is a new file, a line in [`build`], a key in the configuration and a test.

use std::time::Duration;

use crate::config::types::Metric;

/// A signal that a policy needs in every sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    pub metric: Metric,
    /// For `response_time`; 0 for all others.
    pub quantile: f64,
    /// The span that a quantile or a ratio is taken over. Means per backend (cpu, memory,
    /// in_flight, rps, connections) are of the tick alone; the history averages them.
    pub window: Duration,
}
