//! From draining to stopped: no new picks, idle connections closed, nothing in flight, and only
//! then the order to stop.

use std::sync::Arc;
use std::time::Duration;

use crate::registry::DrainedBy;
use crate::upstream::backend::Backend;
use crate::upstream::gate::State;

use super::core::Control;
use super::events::{DrainStep, Kind};
use super::lock;

/// Longest wait for the workers to take a snapshot up. They answer within milliseconds; a worker
/// that does not is busy with what the in-flight count shows.
const ACKNOWLEDGE_LIMIT: Duration = Duration::from_secs(5);
/// How often the in-flight count is looked at: at first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// How a wait for an idle backend ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    Idle,
    /// At the limit, with that many requests still running.
    Forced(u32),
    /// It is no longer draining: taken back, or gone.
    Over,
}

impl Control {
    /// Begins a drain; resolves when no new pick can reach the backend.
    ///
    /// # Errors
    /// If there is no such backend or it is already being stopped.
    pub async fn begin_drain(
        self: &Arc<Self>,
        service: &str,
        id: &str,
        by: DrainedBy,
    ) -> Result<(), crate::registry::DrainError> {
        let changes = lock(&self.registry).drain(service, id, by)?;
        if let Some(generation) = self.act(changes) {
            self.acknowledged(generation).await;
        }
        Ok(())
    }

    /// Drains and then has the orchestrator stop it. Un-draining ends this without a stop.
    pub async fn drain_and_stop(self: Arc<Self>, service: Arc<str>, id: Arc<str>) {
        if self.begin_drain(&service, &id, DrainedBy::Scaling).await.is_err() {
            return;
        }
        let backend = lock(&self.registry).pool(&service).and_then(|p| p.get(&id)?.backend.clone());
        let limit =
            self.managed(&service).map_or(Duration::ZERO, |managed| managed.config().drain_timeout);
        if let Some(backend) = backend {
            match self.wait_idle(&backend, limit).await {
                Drained::Over => return,
                ended => self.tell_drained(&backend, DrainedBy::Scaling, ended),
            }
        }
        self.stop_now(&service, &id);
    }

    /// Orders the stop of a backend that serves nobody. False: it is wanted again, or gone.
    pub fn stop_now(&self, service: &str, id: &Arc<str>) -> bool {
        // From here on nobody can take the drain back.
        if !lock(&self.registry).begin_stop(service, id) {
            return false;
        }
        match self.managed(service) {
            Some(managed) => {
                managed.order_removal(id.clone());
                true
            }
            None => false,
        }
    }

    /// Waits until nothing is in flight on a draining backend.
    pub async fn wait_idle(&self, backend: &Backend, limit: Duration) -> Drained {
        let deadline = self.clock.now() + limit.as_micros() as u64;
        let mut pause = LOOK.0;
        loop {
            if backend.gate.state() != State::Draining {
                return Drained::Over;
            }
            if backend.gate.is_idle() {
                return Drained::Idle;
            }
            if self.clock.now() >= deadline {
                return Drained::Forced(backend.gate.in_flight());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    pub fn tell_drained(&self, backend: &Backend, by: DrainedBy, ended: Drained) {
        let (step, in_flight) = match ended {
            Drained::Idle => (DrainStep::Idle, 0),
            Drained::Forced(cut) => (DrainStep::Forced, cut),
            Drained::Over => return,
        };
        let kind = Kind::Drain {
            backend: backend.id.to_string(),
            address: Some(backend.address),
            step,
            by: by.as_str(),
            in_flight,
        };
        self.events.send(Some(&backend.service), kind);
    }

    /// Waits until every worker has taken a snapshot up, within a limit.
    pub async fn acknowledged(&self, generation: u64) {
        let wait = tokio::time::timeout(ACKNOWLEDGE_LIMIT, self.plane.acknowledged(generation));
        if wait.await.is_err() {
            tracing::warn!(generation, "a worker has not taken the snapshot up yet");
        }
    }
}
