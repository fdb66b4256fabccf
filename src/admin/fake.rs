//! An in-memory [`Source`] for tests: two services, what was asked of it, answers that tests set.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::{self, BoxFuture};
use ipnet::IpNet;
use tokio::sync::broadcast;

use super::source::{NewBackend, Refusal, ScalingOrder, Source};
use super::view::*;
use crate::config;

pub struct Fake {
    pub not_ready: Mutex<Option<String>>,
    /// Every change, in order, as text.
    pub asked: Mutex<Vec<String>>,
    pub mistakes: Mutex<Vec<config::Problem>>,
    pub events: broadcast::Sender<Arc<Event>>,
    /// Size of `/metrics`.
    pub metrics_bytes: usize,
}

impl Fake {
    pub fn new() -> Self {
        Self {
            not_ready: Mutex::default(),
            asked: Mutex::default(),
            mistakes: Mutex::default(),
            events: broadcast::Sender::new(4),
            metrics_bytes: 0,
        }
    }

    pub fn event(id: u64) -> Arc<Event> {
        let data = serde_json::json!({ "from": 2, "to": 3 });
        let (kind, service) = (EventKind::Decision, Some("app".into()));
        let text = "+1 → 3".to_owned();
        Arc::new(Event { id, at: at(id), kind, service, text, quiet: false, data })
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn backend_of(&self, service: &str, backend: &str) -> Result<(), Refusal> {
        let known =
            self.service(service).is_some_and(|s| s.backends.iter().any(|b| b.id == backend));
        match known {
            true => Ok(()),
            false => {
                Err(Refusal::NotFound(format!("there is no backend {backend:?} in {service:?}")))
            }
        }
    }

    fn value(&self, service: &str) -> Result<ScalingValue, Refusal> {
        let service = self
            .service(service)
            .ok_or_else(|| Refusal::NotFound(format!("there is no service {service:?}")))?;
        service.scaling.map(Into::into).ok_or(Refusal::Conflict("it does not scale".into()))
    }
}

impl Source for Fake {
    fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 7,
            started_at: at(0),
            uptime_s: 1.5,
            ready: true,
            workers: 2,
            config_path: "tidegate.toml".into(),
            config_generation: 3,
            last_reload: None,
            listeners: Vec::new(),
            memory: Some(Memory { bytes: 300, limit_bytes: 1000, level: "calm".into() }),
        }
    }

    fn services(&self) -> Vec<Service> {
        let scaling = Scaling {
            mode: ScalingMode::On,
            min: 2,
            max: 8,
            effective_min: 2,
            effective_max: 8,
            current: 2,
            desired: 3,
            limited_by: None,
            cooldown_until: None,
            lead_time_ms: None,
            overridden: None,
        };
        vec![service("app", Some(scaling)), service("static files", None)]
    }

    fn service(&self, name: &str) -> Option<Service> {
        self.services().into_iter().find(|service| service.name == name)
    }

    fn decisions(&self, name: &str, limit: usize) -> Option<Vec<serde_json::Value>> {
        self.service(name)?;
        let record = |ago: usize| {
            let time = Time(at(0).0 - Duration::from_secs(ago as u64));
            serde_json::json!({ "seq": 999 - ago, "time": time })
        };
        Some((0..limit).map(record).collect())
    }

    fn record(&self, service: &str, on: bool) -> Result<Recording, Refusal> {
        self.note(format!("record {service} {on}"));
        Ok(Recording { on, file: "record/app.csv".into() })
    }

    fn costs(&self, since: SystemTime) -> Costs {
        Costs { since: since.into(), until: at(0), services: Vec::new() }
    }

    fn bans(&self, limit: usize) -> Bans {
        let ban = Ban {
            address: "10.0.0.0/24".into(),
            since: at(0),
            until: at(600),
            route: "app".into(),
            limit: "per-client".into(),
        };
        Bans { active: 1, bans: vec![ban].into_iter().take(limit).collect() }
    }

    fn lift_ban(&self, network: IpNet) -> Result<(), Refusal> {
        self.note(format!("lift {network}"));
        match network.to_string().as_str() {
            "10.0.0.0/24" => Ok(()),
            other => Err(Refusal::NotFound(format!("{other} is not banned"))),
        }
    }

    fn config_json(&self) -> Bytes {
        Bytes::from_static(br#"{"admin":{}}"#)
    }

    fn metrics(&self, openmetrics: bool) -> String {
        let mut text = "#".repeat(self.metrics_bytes);
        text.push_str(if openmetrics { "# EOF\n" } else { "tidegate_build_info 1\n" });
        text
    }

    fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    fn drain<'a>(
        &'a self,
        service: &'a str,
        backend: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        self.note(format!("drain {service} {backend}"));
        if backend == "hangs" {
            return Box::pin(future::pending());
        }
        Box::pin(future::ready(self.backend_of(service, backend)))
    }

    fn undrain<'a>(
        &'a self,
        service: &'a str,
        backend: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        self.note(format!("undrain {service} {backend}"));
        Box::pin(future::ready(self.backend_of(service, backend)))
    }

    fn add_backend<'a>(
        &'a self,
        service: &'a str,
        new: NewBackend,
        persist: bool,
    ) -> BoxFuture<'a, Result<Backend, Refusal>> {
        self.note(format!("add {service} {} {} {persist}", new.address, new.weight));
        let Some(Service { mut backends, .. }) = self.service(service) else {
            let refusal = Refusal::NotFound(format!("there is no service {service:?}"));
            return Box::pin(future::ready(Err(refusal)));
        };
        let address = Some(new.address.to_string());
        let backend = Backend { address, weight: new.weight, ..backends.remove(0) };
        Box::pin(future::ready(Ok(backend)))
    }

    fn remove_backend<'a>(
        &'a self,
        service: &'a str,
        backend: &'a str,
        persist: bool,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        self.note(format!("remove {service} {backend} {persist}"));
        Box::pin(future::ready(self.backend_of(service, backend)))
    }

    fn set_scaling<'a>(
        &'a self,
        service: &'a str,
        order: ScalingOrder,
    ) -> BoxFuture<'a, Result<ScalingValue, Refusal>> {
        self.note(format!("{service} {order:?}"));
        Box::pin(future::ready(self.value(service)))
    }

    fn clear_scaling<'a>(
        &'a self,
        service: &'a str,
    ) -> BoxFuture<'a, Result<ScalingValue, Refusal>> {
        self.note(format!("{service} auto"));
        Box::pin(future::ready(self.value(service)))
    }

    fn reload(&self) -> BoxFuture<'_, Result<ReloadOk, Vec<config::Problem>>> {
        self.note("reload".into());
        let mistakes = self.mistakes.lock().unwrap().clone();
        Box::pin(future::ready(match mistakes.is_empty() {
            true => Ok(ReloadOk { generation: 4, restart_required: vec!["admin.listen".into()] }),
            false => Err(mistakes),
        }))
    }
}

fn at(seconds: u64) -> Time {
    Time(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds))
}

fn service(name: &str, scaling: Option<Scaling>) -> Service {
    let backend = Backend {
        id: "one".into(),
        address: Some("127.0.0.1:20000".into()),
        state: BackendState::Ready,
        healthy: true,
        ejected_until: None,
        ejected_reason: None,
        weight: 1,
        backup: false,
        in_flight: 0,
        rps: 0.0,
        latency_ms: BackendLatency::default(),
        slowness: Some(1.0),
        utilization: None,
        errors: 0,
        zone: None,
        since: at(0),
        source: BackendSource::Fixed,
        slow_start: None,
        left_ms: None,
        drained_by_operator: false,
        last_error: None,
        cpu: None,
        memory_bytes: None,
    };
    Service {
        name: name.into(),
        balance: "adaptive".into(),
        rps: 0.0,
        in_flight: 0,
        latency_ms: ServiceLatency::default(),
        error_ratio: 0.0,
        limits: Limits::default(),
        backends: vec![backend],
        scaling,
        discovery: Vec::new(),
    }
}
