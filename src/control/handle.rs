//! What the admin API may ask of the control plane.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use tokio::sync::broadcast;

use crate::admin::{NewBackend, Refusal, ScalingOrder, Source, view};
use crate::config::Problem;
use crate::discovery::Feed;
use crate::registry::{DrainError, DrainedBy, Entry};
use crate::scale::Override;

use super::core::Control;
use super::events::Kind;
use super::handover::state::{moved, to_wall};
use super::lock;
use super::managed::Managed;

/// The control plane as others see it.
pub struct Handle {
    control: Arc<Control>,
    started: SystemTime,
}

impl Handle {
    pub fn new(control: Arc<Control>) -> Self {
        let started = control.clock.wall(0);
        Self { control, started }
    }

    fn scaled(&self, service: &str) -> Result<Arc<Managed>, Refusal> {
        if lock(&self.control.registry).pool(service).is_none() {
            return Err(Refusal::NotFound(format!("There is no service \"{service}\".")));
        }
        self.control
            .managed(service)
            .filter(|managed| lock(&managed.scaling).scaler.is_some())
            .ok_or_else(|| {
                Refusal::Invalid(format!("Service \"{service}\" has no scaling configured."))
            })
    }

    /// The id of a backend that is named by its id or, as tables show it, by its address.
    fn id_of(&self, service: &str, backend: &str) -> String {
        let registry = lock(&self.control.registry);
        let Some(pool) = registry.pool(service) else { return backend.to_owned() };
        let at = |e: &&Entry| e.address().is_some_and(|address| address.to_string() == backend);
        // A name that stands for one backend may be called by its own id.
        let mut of_name = pool.entries().filter(|e| {
            e.backend.is_some() && matches!(&e.feed, Some(Feed::Name(id)) if **id == *backend)
        });
        let only = of_name.next().filter(|_| of_name.next().is_none());
        let found = pool.get(backend).or(only).or_else(|| pool.entries().find(at));
        found.map_or_else(|| backend.to_owned(), |entry| entry.id.to_string())
    }

    /// A change that is made while another process takes over would be lost.
    fn may_change(&self) -> Result<(), Refusal> {
        match self.control.standing.may_change() {
            true => Ok(()),
            false => Err(Refusal::Unavailable(
                "Another tidegate is taking over; ask again in a moment.".to_owned(),
            )),
        }
    }

    fn order(
        &self,
        service: &str,
        operator: Option<Override>,
        text: String,
    ) -> Result<view::ScalingValue, Refusal> {
        self.may_change()?;
        let managed = self.scaled(service)?;
        {
            let mut scaling = lock(&managed.scaling);
            if let Some(scaler) = scaling.scaler.as_mut() {
                scaler.set_override(operator);
            }
            let clock = &self.control.clock;
            let operator = operator.map(|o| moved(o, |at| to_wall(clock, at)));
            scaling.scribe.operator(clock.wall(clock.now()).into(), operator);
        }
        self.control.events.send(Some(&managed.service), Kind::Operator { order: text });
        self.control
            .scaling_view(&managed)
            .map(view::ScalingValue::from)
            .ok_or_else(|| Refusal::Conflict("The service is going away.".to_owned()))
    }
}

impl Source for Handle {
    fn status(&self) -> view::Status {
        let control = &self.control;
        let now = control.clock.now();
        let snapshot = control.plane.current();
        let open = |name: &str| {
            let listener = snapshot.listeners.iter().find(|l| *l.config.name == *name);
            listener.map_or(0, |l| l.stats.open() as u64)
        };
        let listeners = control.plane.addresses().into_iter().map(|(name, address)| {
            let (connections, address) = (open(&name), address.to_string());
            view::Listener { name: name.to_string(), address, connections }
        });
        let listeners = listeners.collect();
        let ready = self.ready().is_ok();
        let applied = lock(&control.applied);
        view::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started.into(),
            uptime_s: now as f64 / 1e6,
            ready,
            workers: control.plane.workers() as u32,
            config_path: applied.path.display().to_string(),
            config_generation: applied.generation,
            last_reload: applied.last.clone(),
            listeners,
            memory: control.memory().map(|memory| view::Memory {
                bytes: memory.bytes,
                limit_bytes: memory.limit_bytes,
                level: memory.level.as_str().to_owned(),
            }),
        }
    }

    fn services(&self) -> Vec<view::Service> {
        let names: Vec<_> = lock(&self.control.registry).services().cloned().collect();
        names.iter().filter_map(|name| self.control.view(name)).collect()
    }

    fn service(&self, name: &str) -> Option<view::Service> {
        self.control.view(name)
    }

    fn decisions(&self, name: &str, limit: usize) -> Option<Vec<serde_json::Value>> {
        let Some(managed) = self.control.managed(name) else {
            return lock(&self.control.registry).pool(name).map(|_| Vec::new());
        };
        let scaling = lock(&managed.scaling);
        let newest = scaling.journal.newest().take(limit);
        Some(newest.filter_map(|record| serde_json::to_value(record).ok()).collect())
    }

    fn record(&self, service: &str, on: bool) -> Result<view::Recording, Refusal> {
        self.control.record(service, on)
    }

    fn costs(&self, since: SystemTime) -> view::Costs {
        self.control.costs(since)
    }

    fn bans(&self, limit: usize) -> view::Bans {
        self.control.bans(limit)
    }

    fn lift_ban(&self, network: IpNet) -> Result<(), Refusal> {
        self.may_change()?;
        self.control.lift_ban(network)
    }

    fn config_json(&self) -> Bytes {
        lock(&self.control.applied).taken.shown.clone()
    }

    fn metrics(&self, openmetrics: bool) -> String {
        self.control.metrics(openmetrics, self.started)
    }

    fn ready(&self) -> Result<(), String> {
        if self.control.stopping.load(Relaxed) {
            return Err("tidegate is stopping".to_owned());
        }
        if !self.control.settled.load(Relaxed) {
            return Err("the first round of health checks is not over".to_owned());
        }
        Ok(())
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<view::Event>> {
        self.control.events.subscribe()
    }

    fn drain<'a>(
        &'a self,
        service: &'a str,
        backend: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        async move {
            self.may_change()?;
            let id = self.id_of(service, backend);
            let drained = self.control.begin_drain(service, &id, DrainedBy::Operator).await;
            drained.map_err(|error| refusal(error, service, backend))
        }
        .boxed()
    }

    fn undrain<'a>(
        &'a self,
        service: &'a str,
        backend: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        async move {
            self.may_change()?;
            let id = self.id_of(service, backend);
            let undrained = lock(&self.control.registry).undrain(service, &id, DrainedBy::Operator);
            let changes = undrained.map_err(|error| refusal(error, service, backend))?;
            self.control.act(changes);
            Ok(())
        }
        .boxed()
    }

    fn add_backend<'a>(
        &'a self,
        service: &'a str,
        backend: NewBackend,
        persist: bool,
    ) -> BoxFuture<'a, Result<view::Backend, Refusal>> {
        if let Err(refusal) = self.may_change() {
            return async { Err(refusal) }.boxed();
        }
        // In its own task: a client that goes away must not leave half a change behind.
        let control = self.control.clone();
        whole(tokio::spawn(control.add_backend(service.into(), backend, persist)))
    }

    fn remove_backend<'a>(
        &'a self,
        service: &'a str,
        backend: &'a str,
        persist: bool,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        if let Err(refusal) = self.may_change() {
            return async { Err(refusal) }.boxed();
        }
        let (control, id) = (self.control.clone(), self.id_of(service, backend));
        whole(tokio::spawn(control.remove_backend(service.into(), id.into(), persist)))
    }

    fn set_scaling<'a>(
        &'a self,
        service: &'a str,
        order: ScalingOrder,
    ) -> BoxFuture<'a, Result<view::ScalingValue, Refusal>> {
        async move {
            let managed = self.scaled(service)?;
            let limits = lock(&self.control.registry)
                .pool(service)
                .and_then(|p| p.config().scaling.as_ref().map(|s| (s.min, s.max)));
            let now = self.control.clock.now();
            let until = |lasts: Option<std::time::Duration>| {
                lasts.map(|lasts| now.saturating_add(lasts.as_micros() as u64))
            };
            let (operator, text) = match order {
                ScalingOrder::Pin { replicas, lasts } => {
                    if let Some((min, max)) = limits
                        && !(min..=max).contains(&replicas)
                    {
                        return Err(Refusal::Invalid(format!(
                            "{replicas} is not within min {min} and max {max} of service \"{service}\"."
                        )));
                    }
                    let operator = Override::Pin { replicas, until: until(lasts) };
                    (operator, format!("scaling pinned at {replicas}"))
                }
                ScalingOrder::Pause { lasts } => {
                    (Override::Pause { until: until(lasts) }, "scaling paused".to_owned())
                }
            };
            self.order(&managed.service, Some(operator), text)
        }
        .boxed()
    }

    fn clear_scaling<'a>(
        &'a self,
        service: &'a str,
    ) -> BoxFuture<'a, Result<view::ScalingValue, Refusal>> {
        async move { self.order(service, None, "scaling follows its policies".to_owned()) }.boxed()
    }

    fn reload(&self) -> BoxFuture<'_, Result<view::ReloadOk, Vec<Problem>>> {
        // In its own task: a client that goes away must not leave half a reload behind.
        let control = self.control.clone();
        let path = lock(&control.applied).path.clone();
        let task = tokio::spawn(async move { control.reload().await });
        async move {
            task.await.unwrap_or_else(|error| {
                let message = format!("the reload failed: {error}");
                Err(vec![Problem { file: path, line: 0, column: 0, message }])
            })
        }
        .boxed()
    }
}

/// What a change in a task of its own came to.
fn whole<'a, T: Send + 'static>(
    task: tokio::task::JoinHandle<Result<T, Refusal>>,
) -> BoxFuture<'a, Result<T, Refusal>> {
    async move {
        task.await.unwrap_or_else(|error| Err(Refusal::Unavailable(format!("It failed: {error}."))))
    }
    .boxed()
}

fn refusal(error: DrainError, service: &str, backend: &str) -> Refusal {
    match error {
        DrainError::NoService => Refusal::NotFound(format!("There is no service \"{service}\".")),
        DrainError::NoBackend => {
            Refusal::NotFound(format!("Service \"{service}\" has no backend \"{backend}\"."))
        }
        DrainError::Stopping => {
            Refusal::Conflict(format!("Backend \"{backend}\" is being stopped."))
        }
        DrainError::NotDraining => {
            Refusal::Conflict(format!("Backend \"{backend}\" is not draining."))
        }
    }
}
