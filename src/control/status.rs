//! What the admin API shows of services and backends, gathered at each call.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admin::view;
use crate::clock::Micros;
use crate::config::types as config;
use crate::orchestrator::{InstanceId, Usage};
use crate::registry::{DrainedBy, Entry, Pool};
use crate::scale::Override;
use crate::telemetry::counter::Label;
use crate::telemetry::window::Windows;
use crate::upstream::gate::State;
use crate::upstream::outlier;

use super::core::Control;
use super::lock;
use super::managed::Managed;
use super::sample::is_elsewhere;

/// Rates and quantiles are of so much time.
pub const RECENT: Duration = Duration::from_secs(10);

impl Control {
    /// One service as of now.
    pub fn view(&self, name: &str) -> Option<view::Service> {
        let managed = self.managed(name);
        let usage = managed.as_ref().map(|m| m.measured().of).unwrap_or_default();
        let scaling = managed.as_ref().and_then(|m| self.scaling_view(m));
        let windows = lock(&self.windows);
        let registry = lock(&self.registry);
        let pool = registry.pool(name)?;
        let service = pool.config();
        let traffic = windows.service(name, RECENT);
        let ms = |q| traffic.as_ref().and_then(|t| t.duration.quantile(q)).map(|us| us / 1e3);
        let settings = managed.map(|m| m.config());
        let row = |e: &Entry| self.row(e, pool, &windows, &usage, settings.as_ref());
        let mut others: Vec<_> = pool.others().collect();
        others.sort_by_key(|e| e.ordered);
        Some(view::Service {
            name: name.to_owned(),
            balance: balance(service.balance).to_owned(),
            rps: traffic.as_ref().map_or(0.0, |t| t.rps),
            in_flight: pool.stats().sum(|s| s.flow(self.clock.now()).in_flight),
            latency_ms: view::ServiceLatency { p50: ms(0.5), p90: ms(0.9), p99: ms(0.99) },
            error_ratio: traffic.as_ref().and_then(|t| t.error_ratio()).unwrap_or(0.0),
            limits: view::Limits {
                retry_attempts: service.retry.attempts,
                retry_budget: service.retry.budget,
                panic_threshold: service.panic_threshold,
                places: Some(pool.admission().places()).filter(|places| *places > 0),
                rate: Some(pool.admission().rate()).filter(|rate| rate.is_finite()),
                dropped: pool.admission().dropped(),
                queued: pool.queued(),
                expected: pool.admission().expected(self.clock.now()),
            },
            backends: pool.fixed().chain(others).map(row).collect(),
            scaling,
            discovery: self.feeds_view(name, pool),
        })
    }

    /// The scaling part of a service; `None` without one.
    pub fn scaling_view(&self, managed: &Managed) -> Option<view::Scaling> {
        let (params, current, lead) = {
            let registry = lock(&self.registry);
            let pool = registry.pool(&managed.service)?;
            let current = pool
                .entries()
                .filter(|e| e.is_orchestrated() || is_elsewhere(pool))
                .filter(|e| e.drain.is_none() && !e.stopping)
                .count();
            (pool.config().scaling.clone()?, current, pool.lead_time())
        };
        let scaling = lock(&managed.scaling);
        let scaler = scaling.scaler.as_ref()?;
        let (status, bounds) = (scaler.status(), scaler.bounds());
        let moment = |at: Micros| view::Time(self.clock.wall(at));
        Some(view::Scaling {
            mode: params.mode.into(),
            min: params.min,
            max: params.max,
            effective_min: bounds.0,
            effective_max: bounds.1,
            current: current as u32,
            // Before the first decision: what was ordered at the start.
            desired: if status.desired == 0 { managed.size() } else { status.desired },
            limited_by: status.limited_by.and_then(|(stage, _)| {
                serde_json::to_value(stage).ok()?.as_str().map(str::to_owned)
            }),
            cooldown_until: status.cooldown_until.map(moment),
            lead_time_ms: lead.map(|lead| lead.as_secs_f64() * 1e3),
            overridden: status.operator.map(|operator| match operator {
                Override::Pin { replicas, until } => {
                    view::Override::Pin { replicas, until: until.map(moment) }
                }
                Override::Pause { until } => view::Override::Pause { until: until.map(moment) },
            }),
        })
    }

    fn row(
        &self,
        entry: &Entry,
        pool: &Pool,
        windows: &Windows,
        usage: &BTreeMap<InstanceId, Usage>,
        orchestrator: Option<&config::Orchestrator>,
    ) -> view::Backend {
        let now = self.clock.now();
        let slow_start = pool.config().slow_start;
        let backend = entry.backend.as_deref();
        let traffic = backend.and_then(|b| windows.backend(b.uid, RECENT));
        let ms = |q| traffic.as_ref().and_then(|t| t.ttfb.quantile(q)).map(|us| us / 1e3);
        let ramp = backend
            .filter(|_| pool.slow_starts(now))
            .map_or(Duration::ZERO, |b| b.ramp_left(now, slow_start));
        let left = |since: Micros, limit: Duration| {
            limit.saturating_sub(Duration::from_micros(now.saturating_sub(since)))
        };
        let left = match (entry.state(), orchestrator) {
            (State::Ready, _) if !ramp.is_zero() => Some(ramp),
            (State::Pending | State::Starting, Some(o)) => {
                Some(left(entry.ordered, o.start_timeout))
            }
            (State::Draining, Some(o)) => entry.drain.map(|d| left(d.since, o.drain_timeout)),
            _ => None,
        };
        let ejection = backend.and_then(|b| b.gate.ejection());
        let operator = entry.drain.is_some_and(|d| d.by == DrainedBy::Operator);
        view::Backend {
            id: entry.id.to_string(),
            address: entry.address().map(|a| a.to_string()),
            state: entry.state().into(),
            healthy: backend.is_some_and(|b| b.gate.is_healthy()) && entry.state() >= State::Ready,
            ejected_until: ejection.map(|terms| self.clock.wall(terms.moment * 1000).into()),
            ejected_reason: ejection.map(|terms| match &entry.ejected_for {
                Some(why) => why.clone(),
                None => outlier::reason(terms).as_str().to_owned(),
            }),
            weight: entry.weight,
            backup: entry.backup,
            in_flight: backend.map_or(0, |b| b.gate.in_flight().into()),
            rps: traffic.as_ref().map_or(0.0, |t| t.rps),
            latency_ms: view::BackendLatency {
                p50: ms(0.5),
                p99: ms(0.99),
                ewma: backend
                    .filter(|b| b.latency.is_known())
                    .map(|b| f64::from(b.latency.read(now)) / 1e3),
                calm: backend
                    .and_then(|b| lock(&self.overload).calm_of(&pool.config().name, b.uid))
                    .map(|calm| calm.seconds * 1e3),
            },
            slowness: backend
                .filter(|_| pool.config().balance == config::Balance::Adaptive)
                .map(|b| b.learned.standing().factor.into()),
            utilization: backend
                .filter(|_| pool.config().load_report)
                .and_then(|b| Some(b.reported.last(now)?.utilization.into())),
            errors: backend.map_or(0, |b| b.stats.sum(|s| s.failures.total())),
            zone: entry.zone.as_ref().map(ToString::to_string),
            since: self.clock.wall(entry.since).into(),
            source: entry.source.into(),
            slow_start: (!ramp.is_zero())
                .then(|| backend.map_or(1.0, |b| b.ramp_factor(now, slow_start).into())),
            left_ms: left.filter(|_| !operator).map(|d| d.as_millis() as u64),
            drained_by_operator: operator,
            last_error: entry.last_error.clone(),
            cpu: usage.get(&entry.id).map(|u| u.cpu),
            memory_bytes: usage.get(&entry.id).map(|u| u.memory_bytes),
        }
    }
}

/// As in the configuration.
fn balance(balance: config::Balance) -> &'static str {
    match balance {
        config::Balance::Adaptive => "adaptive",
        config::Balance::RoundRobin => "round_robin",
        config::Balance::LeastConnections => "least_connections",
        config::Balance::Random => "random",
        config::Balance::P2cEwma => "p2c_ewma",
        config::Balance::IpHash | config::Balance::NginxIpHash => "ip_hash",
        config::Balance::Hash => "hash",
    }
}
