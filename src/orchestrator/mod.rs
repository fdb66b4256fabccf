//! Orchestrators: who starts and stops backends.
//!
//! The trait is small, object-safe and honest about what each system can do. An orchestrator
//! knows nothing of HTTP, health or drains: it is told a plan and says what runs.

pub mod conformance;
pub mod kinds;
pub mod memory;
mod nobody;
pub mod process;

use std::collections::BTreeMap;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

/// Identity of one instance within its service; never used again for another instance.
pub type InstanceId = Arc<str>;

/// One running (or starting, or stopping) backend as its orchestrator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    pub id: InstanceId,
    /// `None` while it has no address yet.
    pub address: Option<SocketAddr>,
    pub state: InstanceState,
    pub labels: BTreeMap<String, String>,
    pub zone: Option<Arc<str>>,
    pub started_at: SystemTime,
}

impl Instance {
    /// One that was started now and runs already; without labels and zone.
    pub fn started(id: InstanceId, address: SocketAddr) -> Self {
        let (address, started_at) = (Some(address), SystemTime::now());
        let (state, labels) = (InstanceState::Running, BTreeMap::new());
        Self { id, address, state, labels, zone: None, started_at }
    }

    /// Whether it lives and owns its address.
    pub fn is_running(&self) -> bool {
        self.state == InstanceState::Running
    }
}

/// What the orchestrator can say about an instance; readiness is decided by health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceState {
    /// Ordered, not yet listening.
    Starting,
    /// It lives and owns its address.
    Running,
    /// It was told to stop.
    Stopping,
    /// It ended by itself; the text is for people (`exit status: 1`). Kept in one report only.
    Exited(String),
}

/// What is wanted. Idempotent: applying the same plan twice changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Plans with a generation below the last applied one are refused.
    pub generation: u64,
    /// Instances that should exist once `remove` is gone.
    pub desired: u32,
    /// Instances to stop; they were drained before.
    pub remove: Vec<InstanceId>,
}

/// What came of a plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    pub started: Vec<InstanceId>,
    pub stopping: Vec<InstanceId>,
    /// Why fewer were started than wanted, for people: `crash loop: 5 exits within 10 s, next start in 8 s`.
    pub held_back: Option<String>,
}

/// CPU and memory of one instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Cores in use, 1.0 = one core, mean since the last call.
    pub cpu: f64,
    /// Cores it may use; `None` = the machine's. `cpu ÷ cpu_limit` is the ratio that policies see.
    pub cpu_limit: Option<f64>,
    pub memory_bytes: u64,
}

/// Can the victim of a removal be chosen?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victims {
    /// Yes (process, Docker, Compose).
    Exact,
    /// It is asked for and mostly heeded (Kubernetes).
    Hint,
    /// The system takes whom it wants; drain what it will take (Swarm).
    Balanced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    pub victims: Victims,
    /// Whether `usage` has anything to say.
    pub usage: bool,
    /// Whether instances live on when tidegate ends.
    pub outlives_us: bool,
}

/// A failed call. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrchestratorError {
    /// Worth another try after a backoff.
    #[error("{0}")]
    Transient(String),
    /// Asking again will not help until something is changed by a person.
    #[error("{0}")]
    Permanent(String),
    /// Credentials are missing or refused.
    #[error("{0}")]
    Unauthorized(String),
    /// A newer plan was applied before this one.
    #[error("plan {got} is older than {applied}, which was applied")]
    Stale { got: u64, applied: u64 },
}

impl From<std::io::Error> for OrchestratorError {
    /// Most of them pass: too many open files, no free port, no memory.
    fn from(error: std::io::Error) -> Self {
        Self::Transient(error.to_string())
    }
}

/// Who starts and stops the backends of one service. One value serves one service; every
/// method may be called at any time and from several tasks. Callers bound each call with a timeout.
pub trait Orchestrator: Send + Sync + 'static {
    fn capabilities(&self) -> Capabilities;

    /// What there is now, in a stable order.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Instance>, OrchestratorError>>;

    /// Resolves when `list` may have changed since it was last called (or after a while, so
    /// that a caller may simply loop). Cancel-safe.
    fn changed(&self) -> BoxFuture<'_, ()>;

    /// Moves towards the plan; returns once the orders are given, not once they are done.
    fn apply(&self, plan: Plan) -> BoxFuture<'_, Result<Applied, OrchestratorError>>;

    /// Whom a removal of `n` would take, where the victim cannot be chosen; else empty, as it is
    /// unless overridden: to be written where `capabilities` says `Victims::Balanced`.
    fn predict_removal(&self, n: u32) -> BoxFuture<'_, Result<Vec<InstanceId>, OrchestratorError>> {
        let _ = n;
        Box::pin(ready(Ok(Vec::new())))
    }

    /// CPU and memory of each instance; of none unless overridden: to be written where
    /// `capabilities` says `usage`.
    fn usage(&self) -> BoxFuture<'_, Result<BTreeMap<InstanceId, Usage>, OrchestratorError>> {
        Box::pin(ready(Ok(BTreeMap::new())))
    }

    /// tidegate is ending. `stop`: end every instance (grace, then kill) and return when none
    /// is left; otherwise let go of them so that they live on.
    fn shutdown(&self, stop: bool) -> BoxFuture<'_, Result<(), OrchestratorError>>;
}

/// What a factory gets to build an orchestrator for one service.
pub struct Context {
    pub service: Arc<str>,
    /// The `[service.NAME.orchestrator]` table without the common keys, with places in the file.
    pub table: crate::config::tree::Table,
    /// Own folder below `runtime.state_dir`, made on demand.
    pub state_dir: std::path::PathBuf,
    pub stop_grace: Duration,
}

/// Makes orchestrators of one kind; registered with `Builder::orchestrator`.
/// Errors are configuration errors with a place in the file. `check` must not start anything:
/// it is also called by `tidegate check`.
pub trait Factory: Send + Sync + 'static {
    /// What is wrong with the kind's own keys. Unless overridden the kind has none, and so each
    /// key that is there is unknown.
    fn check(&self, context: &Context) -> Vec<crate::config::Problem> {
        context.table.read(|_| ()).1
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Orchestrator>, OrchestratorError>;

    /// Ends what an earlier tidegate started for a service that is not (or not by this kind) run
    /// any more, as far as `state_dir`, the service's folder, tells of it. Returns how many
    /// instances that were. May block, for the time of a grace.
    ///
    /// # Errors
    /// What is in the folder cannot be read or written.
    fn end_leftovers(&self, state_dir: &std::path::Path) -> std::io::Result<usize> {
        let _ = state_dir;
        Ok(0)
    }
}

/// A function that builds one is a factory, of a kind without keys of its own.
impl<F> Factory for F
where
    F: Fn(Context) -> Result<Arc<dyn Orchestrator>, OrchestratorError> + Send + Sync + 'static,
{
    fn build(&self, context: Context) -> Result<Arc<dyn Orchestrator>, OrchestratorError> {
        self(context)
    }
}
