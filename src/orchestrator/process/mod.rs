//! The `process` kind: backends are child processes of tidegate on this machine.

mod backoff;
mod ports;
mod procfs;
mod spawn;
mod sys;

use std::sync::Arc;

use super::{Context, Factory, Orchestrator, OrchestratorError};
use crate::config::Problem;

/// Makes orchestrators of kind `process`.
#[derive(Debug, Clone, Default)]
pub struct ProcessFactory {}

impl Factory for ProcessFactory {
    fn check(&self, _context: &Context) -> Vec<Problem> {
        Vec::new()
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Orchestrator>, OrchestratorError> {
        let text = format!("service {}: the process kind is not there yet", context.service);
        Err(OrchestratorError::Permanent(text))
    }
}
