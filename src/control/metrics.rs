//! Filling in what `/metrics` shows; names and format are left to `telemetry::prometheus`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use crate::registry::{Entry, Pool};
use crate::scale::Stage;
use crate::scale::pipeline::STAGES;
use crate::snapshot::ServiceView;
use crate::telemetry::counter::Label;
use crate::telemetry::prometheus::{self, Metrics, Process};
use crate::upstream::gate::State;

use super::core::Control;
use super::lock;
use super::sample::cpu_ratio;
use super::scaling::{Changes, word};

/// What a service's scaling contributes.
struct Scaling {
    service: Arc<str>,
    desired: u32,
    proposals: Vec<(String, u32)>,
    changes: Changes,
    /// Each stage of the decision, and whether it holds the size back now.
    limits: Vec<(String, bool)>,
    usage: std::collections::BTreeMap<crate::orchestrator::InstanceId, crate::orchestrator::Usage>,
}

impl Control {
    /// The page, as of now.
    pub fn metrics(&self, openmetrics: bool, started: SystemTime) -> String {
        let now = SystemTime::now();
        let since_epoch =
            |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let snapshot = self.plane.current();
        let scaling = self.scaling_metrics();
        let of = |service: &str| scaling.iter().find(|s| *s.service == *service);
        let (reloads, certificates) = {
            let applied = lock(&self.applied);
            let certificates: Vec<_> = applied
                .certificates
                .iter()
                .map(|c| {
                    let left =
                        since_epoch(c.not_after).as_secs_f64() - since_epoch(now).as_secs_f64();
                    (c.names.first().cloned().unwrap_or_else(|| c.file.display().to_string()), left)
                })
                .collect();
            (applied.reloads, certificates)
        };
        let together = lock(&self.applied).taken.config.redis.is_some();
        let windows = lock(&self.windows);
        let registry = lock(&self.registry);
        let mut metrics = Metrics {
            version: env!("CARGO_PKG_VERSION"),
            certificates: certificates.iter().map(|(name, left)| (name.as_str(), *left)).collect(),
            log_dropped: self.log_dropped.load(Relaxed),
            panics: self.plane.worker_stats().sum(|s| s.panics.get()),
            reloads_ok: reloads.0,
            reloads_failed: reloads.1,
            handovers_ok: self.standing.ok.load(Relaxed),
            handovers_failed: self.standing.failed.load(Relaxed),
            process: Process::read(since_epoch(started).as_secs_f64()),
            worker_stall: windows.stall_total(),
            notifications: lock(&self.notifiers)
                .counts()
                .map(|(name, counts)| (name.clone(), counts.read()))
                .collect(),
            together: together.then(|| prometheus::Together {
                up: !self.plane.together().is_away(),
                failures: self.plane.together().failures(),
                alone: self.plane.together().alone(),
            }),
            memory: self.memory().map(|memory| prometheus::Memory {
                bytes: memory.bytes,
                limit_bytes: memory.limit_bytes,
                level: memory.level.number(),
                given_back: memory.given_back,
            }),
            bans: prometheus::Bans {
                active: self.plane.bans().active(),
                begun: self.plane.bans().begun(),
                requests: self.plane.bans().refused(),
            },
            ..Metrics::default()
        };
        for listener in &snapshot.listeners {
            metrics
                .listeners
                .push(prometheus::Listener { name: &listener.config.name, stats: &listener.stats });
        }
        for route in &snapshot.routes {
            let targets = route.targets.iter().map(|target| (target, false));
            let mirror = route.mirror.iter().map(|target| (target, true));
            metrics.routes.extend(targets.chain(mirror).map(|(target, is_mirror)| {
                prometheus::Route {
                    name: &route.config.name,
                    is_mirror,
                    service: target.name.as_deref().unwrap_or_default(),
                    stats: &target.stats,
                    duration: windows.route_total(&target.stats),
                }
            }));
        }
        for route in &snapshot.routes {
            let rates = route.limits.iter().flat_map(|limits| limits.rates());
            metrics.limits.extend(rates.map(|rate| prometheus::Limit {
                route: &route.config.name,
                name: rate.limit.name(),
                refused: rate.limit.counts.refused.load(Relaxed),
                dry_run: rate.limit.counts.dry_run.load(Relaxed),
                keys: rate.limit.keys(),
                overflowed: rate.limit.overflowed(),
            }));
        }
        for service in &snapshot.services {
            let name = &service.config.name;
            let known = of(name);
            metrics.services.push(prometheus::Service {
                name,
                stats: &service.stats,
                in_flight: service.stats.sum(|s| s.flow(self.clock.now()).in_flight),
                queued: service.queue.depth().saturating_sub(held(service)),
                rate: service.admission.rate(),
                held: held(service),
                tunnels: service.backends.iter().map(|member| member.backend.tunnels()).sum(),
                queue_wait: windows.queue_wait_total(name),
                desired: known.map(|s| s.desired),
                proposals: known.map_or_else(Vec::new, |s| {
                    s.proposals.iter().map(|(p, n)| (p.as_str(), f64::from(*n))).collect()
                }),
                events: known.map_or_else(Vec::new, |s| {
                    let changes = s.changes.iter();
                    changes.map(|((up, reason), n)| (direction(*up), reason.as_str(), *n)).collect()
                }),
                limited: known.map_or_else(Vec::new, |s| {
                    s.limits.iter().map(|(stage, now)| (stage.as_str(), *now)).collect()
                }),
                start: known.and_then(|_| registry.pool(name)).map(Pool::starts),
                ejections: service.outliers.ejections().map(|(r, n)| (r.as_str(), n)).collect(),
            });
            for entry in registry.pool(name).into_iter().flat_map(|p| p.entries()) {
                let usage = known.and_then(|s| s.usage.get(&entry.id));
                metrics.backends.push(prometheus::Backend {
                    service: name,
                    id: &entry.id,
                    state: state(entry),
                    up: entry.is_available(),
                    in_flight: entry.backend.as_ref().map_or(0, |b| b.gate.in_flight().into()),
                    limit: entry.backend.as_ref().map_or(0, |b| b.limit.most()),
                    duration: entry.backend.as_ref().and_then(|b| windows.backend_total(b.uid)),
                    stats: entry.backend.as_ref().map(|b| &b.stats),
                    cpu: usage.map(cpu_ratio),
                    memory_bytes: usage.map(|u| u.memory_bytes),
                });
            }
        }
        metrics.encode(openmetrics)
    }

    fn scaling_metrics(&self) -> Vec<Scaling> {
        let managed: Vec<_> = lock(&self.managed).values().cloned().collect();
        managed
            .iter()
            .map(|m| {
                let scaling = lock(&m.scaling);
                let status = scaling.scaler.as_ref().map(|s| s.status().clone());
                let limits = |limited_by: Option<Stage>| {
                    STAGES.map(|(stage, _)| (word(stage), limited_by == Some(stage))).to_vec()
                };
                Scaling {
                    service: m.service.clone(),
                    desired: m.size(),
                    changes: scaling.changes.clone(),
                    limits: status
                        .as_ref()
                        .map_or_else(Vec::new, |s| limits(s.limited_by.map(|(stage, _)| stage))),
                    proposals: status.map(|s| s.proposals).unwrap_or_default(),
                    usage: m.measured().of,
                }
            })
            .collect()
    }
}

fn held(service: &ServiceView) -> u32 {
    service.hold.as_ref().map_or(0, |hold| hold.waiting())
}

fn direction(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

fn state(entry: &Entry) -> &'static str {
    match entry.state() {
        State::Pending => "pending",
        State::Starting => "starting",
        State::Ready if entry.is_ejected() => "ejected",
        State::Ready => "ready",
        State::Draining => "draining",
        State::Gone => "gone",
    }
}
