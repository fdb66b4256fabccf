//! An orchestrator that only pretends: instances are entries of a list.
//!
//! For tests of whatever sits above an orchestrator, and for trying a configuration without
//! starting anything. Starts and stops take the time that was set, told by the clock that was
//! given; calls can be made to fail or to hang. It never exits, uses or serves anything itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::{
    Applied, Capabilities, Instance, InstanceId, InstanceState, Orchestrator, OrchestratorError,
    Plan, Usage, Victims,
};
use crate::clock::{Clock, Micros};

/// How the next calls of `list`, `apply` and `usage` behave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mood {
    /// They work.
    #[default]
    Well,
    /// They return this error.
    Failing(OrchestratorError),
    /// They never return.
    Hanging,
}

/// See the module's text.
pub struct Memory {
    clock: Clock,
    start_delay: Duration,
    stop_delay: Duration,
    victims: Victims,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    mood: Mood,
    entries: Vec<Entry>,
    exits: Vec<Instance>,
    plan: Plan,
    made: u32,
    usage: Usage,
    down: bool,
}

struct Entry {
    id: InstanceId,
    address: SocketAddr,
    started: Micros,
    stopped: Option<Micros>,
}

impl Memory {
    /// Instances run `start_delay` after they were ordered and are gone `stop_delay` after the
    /// order to stop. The n-th instance is `mem-n` at 127.0.0.1, port 10000 + n.
    pub fn new(clock: Clock, start_delay: Duration, stop_delay: Duration) -> Self {
        Self {
            clock,
            start_delay,
            stop_delay,
            victims: Victims::Exact,
            state: Mutex::new(State {
                mood: Mood::Well,
                entries: Vec::new(),
                exits: Vec::new(),
                plan: Plan { generation: 0, desired: 0, remove: Vec::new() },
                made: 0,
                usage: Usage { cpu: 0.0, cpu_limit: None, memory_bytes: 0 },
                down: false,
            }),
            changed: Notify::new(),
        }
    }

    /// What [`Orchestrator::capabilities`] says of victims; `Exact` unless set.
    pub fn with_victims(mut self, victims: Victims) -> Self {
        self.victims = victims;
        self
    }

    /// Sets how calls behave from now on. A call that hangs already stays hanging.
    pub fn set_mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Sets what `usage` says of every instance.
    pub fn set_usage(&self, usage: Usage) {
        self.lock().usage = usage;
    }

    /// Lets an instance end by itself, as if it had crashed; it is replaced at once.
    /// False if there is none of this id.
    pub fn crash(&self, id: &str) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(at) = state.entries.iter().position(|e| &*e.id == id && e.stopped.is_none())
        else {
            return false;
        };
        let entry = state.entries.remove(at);
        let mut exit = self.instance(&entry, now);
        exit.state = InstanceState::Exited("crashed".to_owned());
        state.exits.push(exit);
        self.fill(&mut state, now);
        drop(state);
        self.poke();
        true
    }

    /// Wakes whoever waits in `changed`; to be called after a manual clock was advanced.
    pub fn poke(&self) {
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    /// How many exist that were not told to stop.
    pub fn live(&self) -> usize {
        self.lock().entries.iter().filter(|e| e.stopped.is_none()).count()
    }

    /// Whether an instance is there, also one that is being stopped.
    pub fn has(&self, id: &str) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        self.settle(&mut state, now);
        state.entries.iter().any(|e| &*e.id == id)
    }

    /// The last plan that was accepted.
    pub fn plan(&self) -> Plan {
        self.lock().plan.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn mood(&self) -> Result<(), OrchestratorError> {
        let mood = self.lock().mood.clone();
        match mood {
            Mood::Well => Ok(()),
            Mood::Failing(error) => Err(error),
            Mood::Hanging => std::future::pending().await,
        }
    }

    fn settle(&self, state: &mut State, now: Micros) {
        let delay = self.stop_delay.as_micros() as Micros;
        state.entries.retain(|e| e.stopped.is_none_or(|at| now < at + delay));
    }

    fn fill(&self, state: &mut State, now: Micros) -> Vec<InstanceId> {
        let live = state.entries.iter().filter(|e| e.stopped.is_none()).count();
        let missing = (state.plan.desired as usize).saturating_sub(live);
        (0..missing)
            .map(|_| {
                state.made += 1;
                let id: InstanceId = format!("mem-{}", state.made).into();
                let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + state.made as u16));
                state.entries.push(Entry { id: id.clone(), address, started: now, stopped: None });
                id
            })
            .collect()
    }

    fn instance(&self, entry: &Entry, now: Micros) -> Instance {
        let runs = now >= entry.started + self.start_delay.as_micros() as Micros;
        Instance {
            id: entry.id.clone(),
            address: runs.then_some(entry.address),
            state: match (entry.stopped, runs) {
                (Some(_), _) => InstanceState::Stopping,
                (None, true) => InstanceState::Running,
                (None, false) => InstanceState::Starting,
            },
            labels: BTreeMap::new(),
            zone: None,
            started_at: self.clock.wall(entry.started),
        }
    }

    /// When something changes by itself next.
    fn next(&self, state: &State, now: Micros) -> Option<Micros> {
        let (start, stop) =
            (self.start_delay.as_micros() as Micros, self.stop_delay.as_micros() as Micros);
        let of = |e: &Entry| e.stopped.map_or(e.started + start, |at| at + stop);
        state.entries.iter().map(of).filter(|&at| at > now).min()
    }
}

impl Orchestrator for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities { victims: self.victims, usage: true, outlives_us: false }
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Instance>, OrchestratorError>> {
        async {
            self.mood().await?;
            let now = self.clock.now();
            let mut state = self.lock();
            self.settle(&mut state, now);
            let mut all = std::mem::take(&mut state.exits);
            all.extend(state.entries.iter().map(|e| self.instance(e, now)));
            Ok(all)
        }
        .boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        async {
            let woken = self.changed.notified();
            let now = self.clock.now();
            let next = self.next(&self.lock(), now);
            match next.filter(|_| !self.clock.is_manual()) {
                Some(at) => {
                    let _ = tokio::time::timeout(Duration::from_micros(at - now), woken).await;
                }
                None => woken.await,
            }
        }
        .boxed()
    }

    fn apply(&self, plan: Plan) -> BoxFuture<'_, Result<Applied, OrchestratorError>> {
        async move {
            self.mood().await?;
            let now = self.clock.now();
            let mut state = self.lock();
            if state.down {
                return Err(OrchestratorError::Permanent("it was shut down".to_owned()));
            }
            if plan.generation < state.plan.generation {
                let applied = state.plan.generation;
                return Err(OrchestratorError::Stale { got: plan.generation, applied });
            }
            let mut applied = Applied::default();
            for entry in state.entries.iter_mut().filter(|e| e.stopped.is_none()) {
                if plan.remove.contains(&entry.id) {
                    entry.stopped = Some(now);
                    applied.stopping.push(entry.id.clone());
                }
            }
            state.plan = plan;
            applied.started = self.fill(&mut state, now);
            self.settle(&mut state, now);
            drop(state);
            self.poke();
            Ok(applied)
        }
        .boxed()
    }

    fn predict_removal(&self, n: u32) -> BoxFuture<'_, Result<Vec<InstanceId>, OrchestratorError>> {
        async move {
            self.mood().await?;
            if self.victims == Victims::Exact {
                return Ok(Vec::new());
            }
            let state = self.lock();
            let live = state.entries.iter().rev().filter(|e| e.stopped.is_none());
            Ok(live.take(n as usize).map(|e| e.id.clone()).collect())
        }
        .boxed()
    }

    fn usage(&self) -> BoxFuture<'_, Result<BTreeMap<InstanceId, Usage>, OrchestratorError>> {
        async {
            self.mood().await?;
            let state = self.lock();
            Ok(state.entries.iter().map(|e| (e.id.clone(), state.usage)).collect())
        }
        .boxed()
    }

    fn shutdown(&self, stop: bool) -> BoxFuture<'_, Result<(), OrchestratorError>> {
        async move {
            let mut state = self.lock();
            state.down = true;
            if stop {
                state.entries.clear();
            }
            drop(state);
            self.poke();
            Ok(())
        }
        .boxed()
    }
}
