//! From draining to stopped: no new picks, idle connections closed, nothing in flight, and only
//! then the order to stop.

use std::sync::Arc;
use std::time::Duration;

use crate::config::types as config;

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
    /// At a limit, with so much still running; it was cut or will be with the stop.
    Forced {
        requests: u32,
        tunnels: u32,
    },
    /// It is no longer draining: taken back, or gone.
    Over,
}

/// How long a drain waits for what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub requests: Duration,
    /// For upgraded connections.
    pub tunnels: Duration,
}

impl Limits {
    pub const NONE: Self = Self { requests: Duration::ZERO, tunnels: Duration::ZERO };

    pub fn of(config: &config::Orchestrator) -> Self {
        Self { requests: config.drain_timeout, tunnels: config.tunnel_drain_timeout }
    }
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
    pub async fn drain_and_stop(self: Arc<Self>, service: Arc<str>, id: Arc<str>, by: DrainedBy) {
        if self.begin_drain(&service, &id, by).await.is_err() {
            return;
        }
        let backend = lock(&self.registry).pool(&service).and_then(|p| p.get(&id)?.backend.clone());
        let limits =
            self.managed(&service).map_or(Limits::NONE, |managed| Limits::of(&managed.config()));
        if let Some(backend) = backend {
            match self.wait_idle(&backend, limits).await {
                Drained::Over => return,
                ended => self.tell_drained(&backend, by, ended),
            }
        }
        // The process before us may have requests there that we do not see.
        self.standing.alone().await;
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

    /// Waits until nothing is in flight on a draining backend. Upgraded connections end by
    /// themselves even less than long requests do: they have a time of their own and are cut
    /// after it.
    pub async fn wait_idle(&self, backend: &Backend, limits: Limits) -> Drained {
        let began = self.clock.now();
        let past = |limit: Duration| self.clock.now() >= began + limit.as_micros() as u64;
        let mut cut = 0;
        let mut pause = LOOK.0;
        loop {
            if backend.gate.state() != State::Draining {
                return Drained::Over;
            }
            let idle = backend.gate.is_idle();
            let tunnels = backend.tunnels();
            if idle && cut == 0 {
                return Drained::Idle;
            }
            if idle {
                return Drained::Forced { requests: 0, tunnels: cut };
            }
            if tunnels > cut && past(limits.tunnels) {
                cut = tunnels;
                backend.cut_tunnels(true);
                self.plane.wake();
            }
            if past(limits.requests) && (tunnels == 0 || past(limits.tunnels)) {
                let requests = backend.gate.in_flight().saturating_sub(tunnels);
                return Drained::Forced { requests, tunnels: cut };
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    pub fn tell_drained(&self, backend: &Backend, by: DrainedBy, ended: Drained) {
        let (step, in_flight, tunnels) = match ended {
            Drained::Idle => (DrainStep::Idle, 0, 0),
            Drained::Forced { requests, tunnels } => (DrainStep::Forced, requests, tunnels),
            Drained::Over => return,
        };
        let kind = Kind::Drain {
            backend: backend.id.to_string(),
            address: Some(backend.address.clone()),
            step,
            by: by.as_str(),
            in_flight,
            tunnels,
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
