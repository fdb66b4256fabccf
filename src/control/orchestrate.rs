//! The tasks of one orchestrated service: watching what there is, carrying out what is wanted.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::orchestrator::OrchestratorError;

use super::core::Control;
use super::events::Kind;
use super::lock;
use super::managed::{Backoff, Managed, Measured, within};

/// A list is asked for at least this often, also if the orchestrator says that nothing changed.
const RELIST: Duration = Duration::from_secs(10);

/// Keeps the registry in step with what the orchestrator lists. Runs until it is aborted.
pub async fn watch(control: Arc<Control>, managed: Arc<Managed>) {
    let mut backoff = Backoff::default();
    loop {
        if control.list(&managed).await {
            backoff.reset();
            let _ = tokio::time::timeout(RELIST, managed.orchestrator().changed()).await;
        } else {
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
}

/// Carries out orders: one plan at a time, again after a failure. Runs until it is aborted.
pub async fn carry_out(control: Arc<Control>, managed: Arc<Managed>) {
    let mut backoff = Backoff::default();
    loop {
        managed.orders.notified().await;
        while let Err(error) = control.apply(&managed).await {
            if matches!(error, OrchestratorError::Permanent(_) | OrchestratorError::Unauthorized(_))
            {
                // Asking again does not help; the next order tries again.
                break;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        backoff.reset();
    }
}

/// Decides at once when somebody asks for a service of which nothing runs. Runs until it is aborted.
pub async fn wake(control: Arc<Control>, managed: Arc<Managed>) {
    let hold = lock(&control.registry).pool(&managed.service).map(|pool| pool.hold().clone());
    let Some(hold) = hold else { return };
    loop {
        hold.woken().await;
        control.wake(&managed);
    }
}

/// Asks for CPU and memory once an interval. Runs until it is aborted.
pub async fn measure(control: Arc<Control>, managed: Arc<Managed>) {
    if !managed.orchestrator().capabilities().usage {
        return;
    }
    loop {
        // Asked at that moment: an answer that comes late is as old as the question.
        let at = control.clock.now();
        let usage = within(managed.orchestrator().usage()).await;
        // What is not known is missing, not what it was before.
        managed.measure(Measured { at, of: usage.unwrap_or_default() });
        let interval = control.scaling_interval(&managed.service);
        tokio::time::sleep(interval).await;
    }
}

impl Control {
    /// Asks for the list once and takes it in; false if there was none.
    pub async fn list(self: &Arc<Self>, managed: &Managed) -> bool {
        match within(managed.orchestrator().list()).await {
            Ok(instances) => {
                let changes = lock(&self.registry).observe(&managed.service, &instances);
                self.act(changes);
                managed.is_news(None);
                true
            }
            Err(error) => {
                self.orchestrator_failed(managed, "list", &error);
                false
            }
        }
    }

    /// One plan as of now.
    ///
    /// # Errors
    /// The orchestrator's; it was told to people.
    async fn apply(&self, managed: &Managed) -> Result<(), OrchestratorError> {
        if !managed.sized.load(Relaxed) {
            return Ok(());
        }
        match managed.apply(|| self.desired(managed)).await {
            Ok(applied) => {
                if managed.is_news(applied.held_back.clone())
                    && let Some(reason) = applied.held_back
                {
                    let kind = Kind::ScaleBlocked { reason, routine: false };
                    self.events.send(Some(&managed.service), kind);
                }
                Ok(())
            }
            Err(error) => {
                lock(&self.registry).start_failed(&managed.service, &error.to_string());
                self.orchestrator_failed(managed, "apply", &error);
                Err(error)
            }
        }
    }

    /// What a plan asks for: the size wanted and the draining ones that still run, and never fewer
    /// than there are without those to be stopped: nothing ends without a drain.
    fn desired(&self, managed: &Managed) -> u32 {
        let registry = lock(&self.registry);
        let Some(pool) = registry.pool(&managed.service) else { return managed.size() };
        let there = || pool.entries().filter(|e| e.is_orchestrated() && !e.stopping);
        let draining = there().filter(|e| e.drain.is_some()).count() as u32;
        (managed.size() + draining).max(there().count() as u32)
    }

    /// What did not become ready in time is stopped; the orchestrator starts another one, because
    /// the number wanted stays.
    pub fn replace_overdue(&self, managed: &Managed) {
        if !self.standing.may_change() || !self.standing.is_alone() {
            return;
        }
        let limit = managed.config().start_timeout;
        let overdue = lock(&self.registry).overdue(&managed.service, limit);
        for id in overdue {
            let last = lock(&self.registry)
                .pool(&managed.service)
                .and_then(|p| p.get(&id)?.last_error.clone());
            if self.stop_now(&managed.service, &id) {
                let last = last.map_or(String::new(), |e| format!(", last: {e}"));
                let reason = format!(
                    "backend {id} was not ready within {} s and is replaced{last}",
                    limit.as_secs_f64()
                );
                lock(&self.registry).start_failed(&managed.service, &reason);
                let kind = Kind::ScaleBlocked { reason, routine: false };
                self.events.send(Some(&managed.service), kind);
            }
        }
    }

    fn orchestrator_failed(
        &self,
        managed: &Managed,
        operation: &'static str,
        error: &OrchestratorError,
    ) {
        let error = error.to_string();
        if managed.is_news(Some(format!("{operation}: {error}"))) {
            let kind = Kind::OrchestratorFailed { operation, error };
            self.events.send(Some(&managed.service), kind);
        }
    }
}
