//! The end: not ready, still accepting for a while, finish what runs, then the backends that are
//! to end with us.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::config::types::OnExit;
use crate::registry::DrainedBy;

use super::core::Control;
use super::events::Kind;
use super::lock;

/// Beyond the grace, until an orchestrator must have ended what it started.
const MARGIN: Duration = Duration::from_secs(5);

/// For the last lines of the access log.
const LOG_LIMIT: Duration = Duration::from_secs(1);

impl Control {
    /// The orderly way; returns when nothing is left to do. Cutting it short is the caller's part.
    pub async fn stop(self: &Arc<Self>, signal: &str) {
        self.stopping.store(true, Relaxed);
        self.events.send(None, Kind::Stopping { signal: signal.to_owned() });
        self.manager.stopping("finishing what runs");
        let runtime = lock(&self.applied).taken.config.runtime.clone();
        tokio::time::sleep(runtime.shutdown_delay).await;
        let cut = self.plane.stop(runtime.shutdown_timeout).await;
        if cut > 0 {
            tracing::warn!("{cut} connections were cut at shutdown_timeout");
        }
        self.stop_backends().await;
        // The last lines of the access log; the limit is short, so blocking this thread is fine.
        if let Some(log) = lock(&self.assembly).access_log().cloned() {
            log.drain(LOG_LIMIT);
        }
    }

    /// Ends or lets go of all backends, all services at once.
    pub async fn stop_backends(self: &Arc<Self>) {
        let all: Vec<_> = lock(&self.managed).values().cloned().collect();
        let ends = all.into_iter().map(|managed| async move {
            let config = managed.config();
            let stop = config.on_exit == OnExit::Stop;
            if stop {
                self.drain_all(&managed.service).await;
            }
            let limit = config.stop_grace + MARGIN;
            match tokio::time::timeout(limit, managed.orchestrator.shutdown(stop)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(service = %managed.service, "stopping: {error}"),
                Err(_) => tracing::warn!(
                    service = %managed.service,
                    "stopping: not done within {} s", limit.as_secs()
                ),
            }
        });
        let mut ends: Vec<BoxFuture<'_, ()>> = ends.map(|end| end.boxed()).collect();
        let ending: Vec<_> = lock(&self.ending).values().flatten().cloned().collect();
        ends.extend(ending.into_iter().map(|managed| {
            async move {
                let limit = managed.config().stop_grace + MARGIN;
                let ended = tokio::time::timeout(limit, managed.orchestrator.shutdown(true)).await;
                if !matches!(ended, Ok(Ok(()))) {
                    tracing::warn!(service = %managed.service, "stopping: not all of it was ended");
                }
            }
            .boxed()
        }));
        futures_util::future::join_all(ends).await;
    }

    /// The workers have finished; what still counts as in flight was cut with them.
    async fn drain_all(self: &Arc<Self>, service: &str) {
        let ids: Vec<_> = lock(&self.registry).pool(service).map_or_else(Vec::new, |pool| {
            pool.entries().filter(|e| e.is_orchestrated()).map(|e| e.id.clone()).collect()
        });
        for id in ids {
            let changes = lock(&self.registry).drain(service, &id, DrainedBy::Removed);
            // Being stopped already is as good. Nobody is told of each: the end was announced.
            drop(changes);
        }
        let generation = self.publish();
        self.acknowledged(generation).await;
    }
}
