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

use crate::clock::Micros;
use crate::config::types as config;
use crate::orchestrator::{Applied, InstanceId, Orchestrator, OrchestratorError, Plan, Usage};

use super::lock;
use super::scaling::Scaling;

/// Longest wait for one answer of an orchestrator.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// CPU and memory, and when that was asked for.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub at: Micros,
    pub of: BTreeMap<InstanceId, Usage>,
}

/// An orchestrated service.
pub struct Managed {
    pub service: Arc<str>,
    /// Another one after a hand-over that failed: the first had let go of everything.
    orchestrator: Mutex<Arc<dyn Orchestrator>>,
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
    usage: Mutex<Measured>,
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
            orchestrator: Mutex::new(orchestrator),
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

    pub fn orchestrator(&self) -> Arc<dyn Orchestrator> {
        lock(&self.orchestrator).clone()
    }

    pub fn replace_orchestrator(&self, with: Arc<dyn Orchestrator>) {
        *lock(&self.orchestrator) = with;
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

    /// As last measured; empty if that failed.
    pub fn measured(&self) -> Measured {
        lock(&self.usage).clone()
    }

    pub fn measure(&self, measured: Measured) {
        *lock(&self.usage) = measured;
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
        let applied = within(self.orchestrator().apply(plan)).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::control::journal::Scribes;
    use crate::orchestrator::memory::{Memory, Mood};

    fn managed(memory: &Arc<Memory>) -> Managed {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let scribes = Scribes::start(folder.path()).expect("a thread");
        let (journal, scribe) = scribes.open(&"app".into());
        let table = crate::config::tree::Table::parse("", std::path::Path::new("a.toml")).0;
        let second = Duration::from_secs(1);
        let config = config::Orchestrator {
            kind: "memory".into(),
            table,
            start_timeout: second,
            drain_timeout: second,
            tunnel_drain_timeout: second,
            stop_grace: second,
            on_exit: config::OnExit::Stop,
        };
        Managed::new("app".into(), memory.clone(), config, Scaling::new(None, journal, scribe))
    }

    fn memory() -> Arc<Memory> {
        Arc::new(Memory::new(Clock::real(), Duration::ZERO, Duration::ZERO))
    }

    #[tokio::test]
    async fn orders_stay_until_they_were_accepted() {
        let memory = memory();
        let managed = managed(&memory);
        managed.apply(|| 2).await.expect("accepted");
        managed.order_removal("mem-1".into());
        managed.order_removal("mem-1".into());
        let error = OrchestratorError::Transient("not now".into());
        memory.set_mood(Mood::Failing(error.clone()));
        assert_eq!(managed.apply(|| 1).await, Err(error));
        assert_eq!(managed.removals().len(), 1, "written down once, and still");
        memory.set_mood(Mood::Well);
        let applied = managed.apply(|| 1).await.expect("accepted");
        assert_eq!((&applied.stopping[..], &applied.started[..]), (&["mem-1".into()][..], &[][..]));
        assert!(managed.removals().is_empty());
        assert_eq!(managed.apply(|| 1).await, Ok(Applied::default()), "nothing is done twice");
    }

    #[tokio::test]
    async fn each_plan_is_newer_than_those_of_an_earlier_run() {
        let memory = memory();
        managed(&memory).apply(|| 1).await.expect("accepted");
        let first = memory.plan().generation;
        let later = managed(&memory);
        later.apply(|| 1).await.expect("accepted");
        later.apply(|| 1).await.expect("accepted");
        assert!(memory.plan().generation > first);
    }

    #[test]
    fn a_failure_is_news_once() {
        let managed = managed(&memory());
        let failure = || Some("no".to_owned());
        assert!(managed.is_news(failure()) && !managed.is_news(failure()));
        assert!(!managed.is_news(None) && managed.is_news(failure()));
    }

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.next_wait().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next_wait().as_secs(), 1);
    }
}
