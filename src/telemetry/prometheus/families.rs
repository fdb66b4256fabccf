//! Each family of metrics: name, help, and where its samples come from.

use std::collections::{BTreeMap, HashMap};

use super::text::{Encoder, Family, Kind};
use super::{Backend, Metrics, STATES, Service};
use crate::telemetry::counter::Label;
use crate::telemetry::service::{Cause, ConnectError, RetryReason, ShedReason};
use crate::telemetry::{Failure, Flood, Method, MirrorDrop, Refusal, ServiceStats};

impl Metrics<'_> {
    pub(super) fn requests(&self, to: &mut Encoder) {
        let mut family =
            to.family("tidegate_requests_total", Kind::Counter, "Requests answered, by status.");
        let mut digits = itoa::Buffer::new();
        for route in &self.routes {
            // Workers that saw the same code must be one series.
            let mut sums = BTreeMap::new();
            for worker in route.stats.iter() {
                worker.each(|method, code, n| {
                    *sums.entry((method.index(), code)).or_insert(0) += n;
                });
            }
            for ((method, code), n) in sums {
                let method = Method::ALL[method].as_str();
                let code = digits.format(code);
                let service = ("service", route.service);
                let labels = [service, ("route", route.name), ("code", code), ("method", method)];
                family.sample(&labels, n as f64);
            }
        }
        let mut family = to.family(
            "tidegate_request_duration_seconds",
            Kind::Histogram,
            "Time from the head of a request to the end of its answer.",
        );
        for route in &self.routes {
            if let Some(duration) = route.duration {
                let labels = [("service", route.service), ("route", route.name)];
                family.histogram(&labels, duration);
            }
        }
    }

    pub(super) fn mirrors(&self, to: &mut Encoder) {
        let help = "Requests that were not mirrored.";
        let mut family = to.family("tidegate_mirror_dropped_total", Kind::Counter, help);
        for route in self.routes.iter().filter(|route| route.is_mirror) {
            for &reason in MirrorDrop::ALL {
                let n = route.stats.sum(|s| s.mirror_dropped.get(reason));
                let labels = [("route", route.name), ("reason", reason.as_str())];
                family.sample(&labels, n as f64);
            }
        }
    }

    pub(super) fn listeners(&self, to: &mut Encoder) {
        let mut family = to.family("tidegate_connections", Kind::Gauge, "Open client connections.");
        for listener in &self.listeners {
            family.sample(&[("listener", listener.name)], listener.stats.open() as f64);
        }
        let help = "Open client connections that are idle and hold no buffers.";
        let mut family = to.family("tidegate_connections_parked", Kind::Gauge, help);
        for listener in &self.listeners {
            family.sample(&[("listener", listener.name)], listener.stats.parked() as f64);
        }
        let mut family = to.family(
            "tidegate_connections_accepted_total",
            Kind::Counter,
            "Client connections taken in.",
        );
        for listener in &self.listeners {
            family.sample(&[("listener", listener.name)], listener.stats.accepted() as f64);
        }
        let mut family = to.family(
            "tidegate_connections_refused_total",
            Kind::Counter,
            "Client connections closed before they were served.",
        );
        for listener in &self.listeners {
            for &reason in Refusal::ALL {
                let labels = [("listener", listener.name), ("reason", reason.as_str())];
                family.sample(&labels, listener.stats.refused(reason) as f64);
            }
        }
    }

    pub(super) fn floods(&self, to: &mut Encoder) {
        let help =
            "Connections and streams ended because their client did too much, or too slowly.";
        let mut family = to.family("tidegate_floods_total", Kind::Counter, help);
        for listener in &self.listeners {
            for &kind in Flood::ALL {
                let labels = [("listener", listener.name), ("kind", kind.as_str())];
                family.sample(&labels, listener.stats.floods(kind) as f64);
            }
        }
    }

    pub(super) fn bad_requests(&self, to: &mut Encoder) {
        let help = "Requests refused before they were one, their connections closed.";
        let mut family = to.family("tidegate_bad_requests_total", Kind::Counter, help);
        for listener in &self.listeners {
            for (reason, n) in listener.stats.bad_requests() {
                family.sample(&[("listener", listener.name), ("reason", reason)], n as f64);
            }
        }
    }

    pub(super) fn services(&self, to: &mut Encoder) {
        let mut family =
            to.family("tidegate_in_flight", Kind::Gauge, "Requests being served or waiting.");
        for service in &self.services {
            family.sample(&[("service", service.name)], service.in_flight as f64);
        }
        let help = "Upgraded connections (WebSocket) that are open; each is in flight as well.";
        let mut family = to.family("tidegate_tunnels", Kind::Gauge, help);
        for service in &self.services {
            family.sample(&[("service", service.name)], service.tunnels);
        }
        self.waiting(to);
        let mut family = to.family("tidegate_retries_total", Kind::Counter, "Requests sent again.");
        each(&mut family, &self.services, RetryReason::ALL, |s, reason| s.retries.get(reason));
        let mut family = to.family(
            "tidegate_retries_denied_total",
            Kind::Counter,
            "Retries that the budget did not allow.",
        );
        for service in &self.services {
            let n = service.stats.sum(|s| s.retries_denied.get());
            family.sample(&[("service", service.name)], n as f64);
        }
        let mut family = to.family(
            "tidegate_connect_errors_total",
            Kind::Counter,
            "Connections to backends that did not come about.",
        );
        each(&mut family, &self.services, ConnectError::ALL, |s, why| s.connect_errors.get(why));
        let mut family = to.family(
            "tidegate_shed_total",
            Kind::Counter,
            "Requests turned away for want of capacity.",
        );
        each(&mut family, &self.services, ShedReason::ALL, |s, reason| s.shed.get(reason));
        let mut family =
            to.family("tidegate_errors_total", Kind::Counter, "Errors of tidegate's own making.");
        each(&mut family, &self.services, Cause::ALL, |s, cause| s.errors.get(cause));
        let mut family = to.family(
            "tidegate_cancelled_total",
            Kind::Counter,
            "Requests whose client went away before the end of the answer.",
        );
        for service in &self.services {
            let n = service.stats.sum(|s| s.cancelled.get());
            family.sample(&[("service", service.name)], n as f64);
        }
        let mut family = to.family(
            "tidegate_upstream_connections",
            Kind::Gauge,
            "Connections to backends, carrying a request or idle.",
        );
        for service in &self.services {
            let active = service.stats.sum(|s| s.connections_active.get());
            let idle = service.stats.sum(|s| s.connections_idle.get());
            for (state, n) in [("active", active), ("idle", idle)] {
                family.sample(&[("service", service.name), ("state", state)], n as f64);
            }
        }
        let mut family = to.family(
            "tidegate_ejections_total",
            Kind::Counter,
            "Backends taken out because they failed.",
        );
        for service in &self.services {
            for &(reason, n) in &service.ejections {
                family.sample(&[("service", service.name), ("reason", reason)], n as f64);
            }
        }
    }

    pub(super) fn scaling(&self, to: &mut Encoder) {
        let mut family =
            to.family("tidegate_backends", Kind::Gauge, "Backends of a service, by state.");
        let mut counts: HashMap<(&str, &str), u32> = HashMap::new();
        for b in &self.backends {
            *counts.entry((b.service, b.state)).or_default() += 1;
        }
        for service in &self.services {
            for state in STATES {
                let n = counts.get(&(service.name, state)).copied().unwrap_or(0);
                family.sample(&[("service", service.name), ("state", state)], n);
            }
        }
        let mut family = to.family(
            "tidegate_backends_desired",
            Kind::Gauge,
            "Backends that the last decision asked for.",
        );
        for service in &self.services {
            if let Some(desired) = service.desired {
                family.sample(&[("service", service.name)], desired);
            }
        }
        let mut family = to.family(
            "tidegate_scale_proposal",
            Kind::Gauge,
            "Backends that a policy proposed last.",
        );
        for service in &self.services {
            for &(policy, n) in &service.proposals {
                family.sample(&[("service", service.name), ("policy", policy)], n);
            }
        }
        let mut family = to.family(
            "tidegate_scale_events_total",
            Kind::Counter,
            "Changes of size that were decided.",
        );
        for service in &self.services {
            for &(direction, reason, n) in &service.events {
                let service = ("service", service.name);
                let labels = [service, ("direction", direction), ("reason", reason)];
                family.sample(&labels, n as f64);
            }
        }
        let mut family = to.family(
            "tidegate_scale_limited",
            Kind::Gauge,
            "1 where a stage of the decision holds the size back.",
        );
        for service in &self.services {
            for &(stage, limited) in &service.limited {
                family.sample(&[("service", service.name), ("stage", stage)], u32::from(limited));
            }
        }
        let mut family = to.family(
            "tidegate_backend_start_seconds",
            Kind::Histogram,
            "Time from ordering a backend to its first passing check.",
        );
        for service in &self.services {
            if let Some(start) = service.start {
                family.histogram(&[("service", service.name)], start);
            }
        }
    }

    pub(super) fn backends(&self, to: &mut Encoder) {
        let mut gauge = |name, help, value: &dyn Fn(&Backend<'_>) -> Option<f64>| {
            let mut family = to.family(name, Kind::Gauge, help);
            for b in &self.backends {
                if let Some(value) = value(b) {
                    family.sample(&[("service", b.service), ("backend", b.id)], value);
                }
            }
        };
        gauge("tidegate_backend_up", "1 while the backend is picked.", &|b| {
            Some(f64::from(u8::from(b.up)))
        });
        gauge("tidegate_backend_in_flight", "Requests sent to the backend, not finished.", &|b| {
            Some(b.in_flight as f64)
        });
        let help = "Requests that the backend may have in flight, as learned; absent: no limit.";
        gauge("tidegate_backend_limit", help, &|b| (b.limit > 0).then(|| f64::from(b.limit)));
        gauge(
            "tidegate_backend_cpu_ratio",
            "CPU that the backend uses, of what it may use.",
            &|b| b.cpu,
        );
        gauge("tidegate_backend_memory_bytes", "Memory that the backend uses.", &|b| {
            b.memory_bytes.map(|n| n as f64)
        });
        let mut family =
            to.family("tidegate_backend_state", Kind::Gauge, "1 for the state it is in.");
        for b in &self.backends {
            for state in STATES {
                let labels = [("service", b.service), ("backend", b.id), ("state", state)];
                family.sample(&labels, u32::from(b.state == state));
            }
        }
        let mut family = to.family(
            "tidegate_backend_failures_total",
            Kind::Counter,
            "Tries that failed, retried or not.",
        );
        for b in &self.backends {
            for &kind in Failure::ALL {
                let n = b.stats.map_or(0, |stats| stats.sum(|s| s.failures.get(kind)));
                if n > 0 {
                    let reason = kind.as_str();
                    let labels = [("service", b.service), ("backend", b.id), ("reason", reason)];
                    family.sample(&labels, n as f64);
                }
            }
        }
        let mut family = to.family(
            "tidegate_backend_duration_seconds",
            Kind::Histogram,
            "Time from sending a request to the end of the answer.",
        );
        for b in &self.backends {
            if let Some(duration) = b.duration {
                family.histogram(&[("service", b.service), ("backend", b.id)], duration);
            }
        }
    }

    pub(super) fn program(&self, to: &mut Encoder) {
        let mut counter = |name, help, n: u64| {
            to.family(name, Kind::Counter, help).sample(&[], n as f64);
        };
        counter("tidegate_log_dropped_total", "Access log lines dropped.", self.log_dropped);
        counter("tidegate_panics_total", "Panics caught in the data plane.", self.panics);
        let mut family = to.family(
            "tidegate_config_reloads_total",
            Kind::Counter,
            "Reloads of the configuration.",
        );
        for (result, n) in [("ok", self.reloads_ok), ("error", self.reloads_failed)] {
            family.sample(&[("result", result)], n as f64);
        }
        let help = "Hand-overs to a new process; those that went well, of all processes so far.";
        let mut family = to.family("tidegate_handovers_total", Kind::Counter, help);
        for (result, n) in [("ok", self.handovers_ok), ("error", self.handovers_failed)] {
            family.sample(&[("result", result)], n as f64);
        }
        if !self.notifications.is_empty() {
            let help = "Events for people and programs that are told of them ([[notify]]).";
            let mut family = to.family("tidegate_notifications_total", Kind::Counter, help);
            for (name, counts) in &self.notifications {
                for (result, n) in counts {
                    family.sample(&[("name", name), ("result", result)], *n as f64);
                }
            }
        }
        let mut family = to.family(
            "tidegate_certificate_expiry_seconds",
            Kind::Gauge,
            "Time until a certificate is no longer valid.",
        );
        for &(name, left) in &self.certificates {
            family.sample(&[("name", name)], left);
        }
        if let Some(stall) = self.worker_stall {
            let help = "How late a worker's tick came.";
            to.family("tidegate_worker_stall_seconds", Kind::Histogram, help).histogram(&[], stall);
        }
        to.family("tidegate_build_info", Kind::Gauge, "1, with the version.")
            .sample(&[("version", self.version)], 1);
        if let Some(seconds) = self.process.cpu_seconds {
            let help = "User and system CPU time used.";
            to.family("process_cpu_seconds_total", Kind::Counter, help).sample(&[], seconds);
        }
        let mut gauge = |name, help, value: Option<f64>| {
            if let Some(value) = value {
                to.family(name, Kind::Gauge, help).sample(&[], value);
            }
        };
        let resident = self.process.resident_bytes.map(|n| n as f64);
        gauge("process_resident_memory_bytes", "Resident memory.", resident);
        let fds = self.process.open_fds.map(|n| n as f64);
        gauge("process_open_fds", "Open file descriptors.", fds);
        let start = Some(self.process.start_time);
        gauge("process_start_time_seconds", "Start of the process, since the epoch.", start);
    }
}

/// One sample for each service and reason.
fn each<L: Label>(
    family: &mut Family<'_>,
    services: &[Service<'_>],
    reasons: &[L],
    count: impl Fn(&ServiceStats, L) -> u64,
) {
    for service in services {
        for &reason in reasons {
            let n = service.stats.sum(|s| count(s, reason));
            let labels = [("service", service.name), ("reason", reason.as_str())];
            family.sample(&labels, n as f64);
        }
    }
}
