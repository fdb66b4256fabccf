//! The orchestrator of services whose backends somebody else starts and stops (`kind = "none"` with scaling): it has
//! none, and takes every plan without doing anything. What was decided is told by the admin API and by metrics.

use std::future::{pending, ready};

use futures_util::future::BoxFuture;

use super::{Applied, Capabilities, Instance, Orchestrator, OrchestratorError, Plan, Victims};

/// See the module.
#[derive(Debug)]
pub struct Nobody;

impl Orchestrator for Nobody {
    fn capabilities(&self) -> Capabilities {
        Capabilities { victims: Victims::Balanced, usage: false, outlives_us: true }
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Instance>, OrchestratorError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(pending())
    }

    fn apply(&self, _: Plan) -> BoxFuture<'_, Result<Applied, OrchestratorError>> {
        Box::pin(ready(Ok(Applied::default())))
    }

    fn shutdown(&self, _: bool) -> BoxFuture<'_, Result<(), OrchestratorError>> {
        Box::pin(ready(Ok(())))
    }
}
