//! One service's orchestrator and how it is talked to.
//!
//! Orders are levels, not commands: what is wanted (`size`, `removals`) is written down at once, and one
//! task a service carries it out, with a limit on every call and backoff after a failure. So a
//! hanging orchestrator holds up its own service's changes and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::config::types as config;
use crate::orchestrator::{Applied, InstanceId, Orchestrator, OrchestratorError, Plan, Usage};

use super::lock;
use super::scaling::Scaling;

/// Longest wait for one answer of an orchestrator.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// An orchestrated service.
pub struct Managed {
    pub service: Arc<str>,
    pub orchestrator: Arc<dyn Orchestrator>,
    /// The common keys; the kind's own are fixed at its building.
    config: Mutex<config::Orchestrator>,
    /// What it was built from.
    built: config::Orchestrator,
    /// Backends that are meant to exist, without draining ones.
    size: AtomicU32,
    /// Whether `size` was ever decided; until then nothing is ordered.
    pub sized: AtomicBool,
    generation: AtomicU64,
    /// Idle ones that wait for their stop.
    removals: Mutex<BTreeSet<InstanceId>>,
    /// Something above changed.
    pub orders: Notify,
    pub scaling: Mutex<Scaling>,
    pub usage: Mutex<BTreeMap<InstanceId, Usage>>,
    /// The last failure, told once until it changes.
    trouble: Mutex<Option<String>>,
}

impl Managed {
    pub fn new(
        service: Arc<str>,
        orchestrator: Arc<dyn Orchestrator>,
        config: config::Orchestrator,
        scaling: Scaling,
    ) -> Self {
        // Plans of an earlier run must be older than ours, also where the orchestrator remembers them.
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            service,
            orchestrator,
            built: config.clone(),
            config: Mutex::new(config),
            size: AtomicU32::new(0),
            sized: AtomicBool::new(false),
            generation: AtomicU64::new(epoch.as_millis() as u64),
            removals: Mutex::default(),
            orders: Notify::new(),
            scaling: Mutex::new(scaling),
            usage: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    pub fn config(&self) -> config::Orchestrator {
        lock(&self.config).clone()
    }

    /// The settings it was built from; the kind's own keys take effect by a new one only.
    pub fn built(&self) -> &config::Orchestrator {
        &self.built
    }

    pub fn configure(&self, config: config::Orchestrator) {
        *lock(&self.config) = config;
    }

    pub fn size(&self) -> u32 {
        self.size.load(Relaxed)
    }

    /// Writes down how many there should be.
    pub fn order_size(&self, size: u32) {
        self.size.store(size, Relaxed);
        self.sized.store(true, Relaxed);
        self.orders.notify_one();
    }

    /// Writes down that an instance, which serves nobody any more, should be stopped.
    pub fn order_removal(&self, id: InstanceId) {
        lock(&self.removals).insert(id);
        self.orders.notify_one();
    }

    pub fn removals(&self) -> Vec<InstanceId> {
        lock(&self.removals).iter().cloned().collect()
    }

    /// One plan with the next generation: `desired` there should be once the removals are gone.
    ///
    /// # Errors
    /// The orchestrator's, or a transient one if it did not answer in time.
    pub async fn apply(&self, desired: impl FnOnce() -> u32) -> Result<Applied, OrchestratorError> {
        // Before the number: one that is told to stop in between is then a surplus, which is left
        // alone until the next plan. The other way round something would be started for it.
        let remove = self.removals();
        let desired = desired();
        let generation = self.generation.fetch_add(1, Relaxed) + 1;
        let plan = Plan { generation, desired, remove: remove.clone() };
        let applied = within(self.orchestrator.apply(plan)).await?;
        let mut removals = lock(&self.removals);
        for id in &remove {
            removals.remove(id);
        }
        Ok(applied)
    }

    /// Notes how a call ended; true when this is news (a new failure).
    pub fn is_news(&self, failure: Option<String>) -> bool {
        let mut trouble = lock(&self.trouble);
        let news = failure.is_some() && *trouble != failure;
        *trouble = failure;
        news
    }
}

/// Holds a call to the limit.
///
/// # Errors
/// The call's, or a transient one at the limit.
pub async fn within<T>(
    call: impl Future<Output = Result<T, OrchestratorError>>,
) -> Result<T, OrchestratorError> {
    tokio::time::timeout(CALL_LIMIT, call).await.unwrap_or_else(|_| {
        Err(OrchestratorError::Transient(format!("no answer within {} s", CALL_LIMIT.as_secs())))
    })
}

/// Waits between tries: doubles from 1 s to 30 s.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_secs(1))
    }
}

impl Backoff {
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(Duration::from_secs(30));
        wait
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
