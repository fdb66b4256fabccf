//! The end: not ready, still accepting for a while, finish what runs, then the backends that are
//! to end with us.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::config::types::OnExit;
use crate::registry::DrainedBy;

use super::core::Control;
use super::drain::Limits;
use super::events::Kind;
use super::lock;
use super::retire::FIXED;

/// Beyond the grace, until an orchestrator must have ended what it started.
const MARGIN: Duration = Duration::from_secs(5);

/// How often children that are no longer ours to watch are looked at.
const REAP: Duration = Duration::from_secs(1);

/// For the last events that people are told of.
const NOTIFY_LIMIT: Duration = Duration::from_secs(2);

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
        let tunnels = tokio::spawn(self.clone().cut_tunnels());
        let cut = self.plane.stop(runtime.shutdown_timeout).await;
        tunnels.abort();
        if cut > 0 {
            tracing::warn!("{cut} connections were cut at shutdown_timeout");
        }
        // Backends that are to end with us serve the process before us as well, while there is one.
        let alone = tokio::time::timeout(runtime.shutdown_timeout, self.standing.alone());
        let _ = alone.await;
        self.close_books();
        self.close_learned();
        self.stop_backends().await;
        self.finish_notifying().await;
        self.close_log();
    }

    /// The end after a hand-over: what runs is finished, backends are the other process's.
    pub async fn finish(self: &Arc<Self>) {
        let limit = self.drain_limits().map(|(_, limits)| limits.requests).max();
        let shutdown = lock(&self.applied).taken.config.runtime.shutdown_timeout;
        let tunnels = tokio::spawn(self.clone().cut_tunnels());
        let reaping = tokio::spawn(reap());
        let cut = self.plane.stop(limit.unwrap_or_default().max(shutdown)).await;
        tunnels.abort();
        reaping.abort();
        if cut > 0 {
            tracing::warn!("{cut} connections were cut: they ran for too long after the hand-over");
        }
        self.finish_notifying().await;
        self.close_log();
    }

    /// How long each service's requests and upgraded connections may go on in a drain.
    fn drain_limits(&self) -> impl Iterator<Item = (Arc<str>, Limits)> {
        let services: Vec<_> = lock(&self.registry).services().cloned().collect();
        let limits = services.into_iter().map(|service| {
            let managed = self.managed(&service);
            let limits = managed.map_or(FIXED, |managed| Limits::of(&managed.config()));
            (service, limits)
        });
        limits.collect::<Vec<_>>().into_iter()
    }

    /// Upgraded connections do not end by themselves: each service's are cut after their time.
    async fn cut_tunnels(self: Arc<Self>) {
        let mut limits: Vec<_> = self.drain_limits().map(|(s, l)| (l.tunnels, s)).collect();
        limits.sort();
        let began = tokio::time::Instant::now();
        for (limit, service) in limits {
            tokio::time::sleep_until(began + limit).await;
            let backends: Vec<_> = lock(&self.registry)
                .pool(&service)
                .map_or_else(Vec::new, |p| p.entries().filter_map(|e| e.backend.clone()).collect());
            let tunnels: u32 = backends.iter().map(|backend| backend.tunnels()).sum();
            if tunnels > 0 {
                tracing::warn!(%service, "{tunnels} upgraded connections are cut at tunnel_drain_timeout");
                backends.iter().for_each(|backend| backend.cut_tunnels(true));
                self.plane.wake();
            }
        }
    }

    /// What happened until now is still told, if that is quick.
    async fn finish_notifying(&self) {
        let finished = lock(&self.notifiers).finish(NOTIFY_LIMIT);
        finished.await;
    }

    fn close_log(&self) {
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
            match tokio::time::timeout(limit, managed.orchestrator().shutdown(stop)).await {
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
                let ended =
                    tokio::time::timeout(limit, managed.orchestrator().shutdown(true)).await;
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

/// After a hand-over we are still the parent of backends that the other process ends. What is not
/// waited for stays in the system's table until we end too.
async fn reap() {
    loop {
        while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
            waitpid(None, Some(WaitPidFlag::WNOHANG))
        {}
        tokio::time::sleep(REAP).await;
    }
}
