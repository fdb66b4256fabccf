//! The first lines: what listens where, who serves, and that it is ready. Text for a person; the
//! same as events for a log in JSON. Tests and scripts read `listening`, `admin` and `ready`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock::Micros;
use crate::registry::Entry;
use crate::upstream::backend::Source;
use crate::upstream::gate::State;

use super::core::Control;
use super::events::seconds;
use super::lock;

/// How often the first round of checks is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What is said once everything is bound.
pub fn listening(control: &Control, path: &Path, admin: &str, public: Option<&str>, text: bool) {
    let tls = |name: &str| {
        let applied = lock(&control.applied);
        applied.taken.config.listeners.iter().any(|l| *l.name == *name && l.tls.is_some())
    };
    let addresses = control.plane.addresses();
    let urls = addresses.iter().map(|(name, address)| {
        (name, format!("{}://{address}", if tls(name) { "https" } else { "http" }))
    });
    if !text {
        tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %path.display(), "started");
        for (listener, url) in urls {
            tracing::info!(%listener, %url, "listening");
        }
        tracing::info!(url = admin, "admin");
        if let Some(url) = public {
            tracing::info!(%url, "public admin");
        }
        return;
    }
    eprintln!("tidegate {}   config {} (generation 1)", env!("CARGO_PKG_VERSION"), path.display());
    let mut urls = urls.map(|(_, url)| url);
    match urls.next() {
        Some(first) => eprintln!("  listening  {first:<31}admin  {admin}"),
        None => eprintln!("  admin      {admin}"),
    }
    for url in urls {
        eprintln!("  listening  {url}");
    }
    if let Some(url) = public {
        eprintln!("  public     {url}");
    }
}

/// Resolves once every service had its first round: what is fixed was checked once, what is
/// orchestrated is there in the number wanted, or had its time to start.
pub async fn settle(control: Arc<Control>, text: bool) {
    let began = control.clock.now();
    loop {
        let services: Vec<_> = lock(&control.registry).services().cloned().collect();
        if services.iter().all(|service| is_settled(&control, service, began)) {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    lock(&control.registry).set_warm();
    control.settled.store(true, Relaxed);
    if !control.stopping.load(Relaxed) && control.standing.is_service() {
        control.manager.ready("serving");
    }
    let took = seconds((control.clock.now() - began) / 1000);
    if !text {
        tracing::info!("ready");
        return;
    }
    let registry = lock(&control.registry);
    for service in registry.services() {
        let Some(pool) = registry.pool(service) else { continue };
        let ready = pool.entries().filter(|e| e.is_available()).count();
        let all = match (&pool.config().scaling, &pool.config().orchestrator) {
            (Some(scaling), Some(_)) => format!("{}..{}", scaling.min, scaling.max),
            _ => pool.entries().count().to_string(),
        };
        let by = pool
            .config()
            .orchestrator
            .as_ref()
            .filter(|o| !o.is_elsewhere())
            .map_or(String::new(), |o| format!(", started by {} in {took}", o.kind));
        eprintln!("  {service:<10} {ready} of {all} backends ready{by}");
    }
    eprintln!("ready");
}

fn is_settled(control: &Control, service: &str, began: Micros) -> bool {
    let managed = control.managed(service);
    let registry = lock(&control.registry);
    let Some(pool) = registry.pool(service) else { return true };
    let none = crate::config::types::Check::None;
    let unchecked = |e: &Entry| match e.source {
        Source::Fixed => pool.config().health.kind.fixed == none,
        _ => pool.config().health.kind.orchestrated == none,
    };
    let fixed = control.feeds.all_asked(service)
        && pool
            .entries()
            .filter(|e| !e.is_orchestrated())
            .all(|e| e.checked || e.leaving || (unchecked(e) && e.backend.is_some()));
    let Some(managed) = managed.filter(|one| !one.built().is_elsewhere()) else { return fixed };
    let waited = Duration::from_micros(control.clock.now().saturating_sub(began));
    let there = pool.entries().filter(|e| e.is_orchestrated() && e.state() >= State::Ready).count();
    let complete = managed.sized.load(Relaxed) && there as u32 >= managed.size();
    fixed && (complete || waited >= managed.config().start_timeout)
}
