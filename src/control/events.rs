//! What happens, as typed events: one stream for the log, the terminal and `/v1/events`.
//!
//! The stream is bounded: a reader that falls behind loses the oldest events and is told how
//! many. Sending never waits. What an event looks like on a terminal is in `text`;
//! how lines are written is left to `control::log`.

mod steps;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::broadcast;

use crate::admin::view::{self, EventKind};
use crate::config::types::Address;

pub use super::spells::Step;
pub use steps::{BanStep, DrainStep, PressureStep};
pub use text::seconds;

/// Events kept for a slow reader.
const CAPACITY: usize = 1024;

/// What happened; its JSON is the `data` of an event in `/v1/events`, the tag its finer name.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A backend moved in its life: `starting`, `ready`, `gone`, `unhealthy`, `healthy`.
    BackendState {
        backend: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Address>,
        state: &'static str,
        /// Time from its start to the first passing check, where that is what happened.
        #[serde(skip_serializing_if = "Option::is_none")]
        after_ms: Option<u64>,
        /// Slow start that begins now.
        #[serde(skip_serializing_if = "Option::is_none")]
        ramp_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A drain began (`begun`), was taken back (`undone`), became idle (`idle`), or was ended
    /// by force (`forced`) with that many requests cut.
    Drain {
        backend: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Address>,
        step: DrainStep,
        by: &'static str,
        in_flight: u32,
        /// Upgraded connections that were cut.
        #[serde(skip_serializing_if = "is_zero")]
        tunnels: u32,
    },
    /// A backend failed requests and is left alone.
    BackendEjected {
        backend: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Address>,
        /// As in the metrics.
        reason: &'static str,
        /// The numbers that led to it.
        why: String,
        for_ms: u64,
        /// How often it was ejected lately.
        times: u16,
    },
    /// It takes requests again.
    BackendUnejected {
        backend: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Address>,
        why: &'static str,
        /// Slow start that begins now.
        #[serde(skip_serializing_if = "Option::is_none")]
        ramp_ms: Option<u64>,
    },
    /// A backend ended by itself.
    Crash {
        backend: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Address>,
        cause: String,
    },
    /// The scaler changed the number of backends.
    Scaled {
        from: u32,
        to: u32,
        reason: String,
        decision: u64,
    },
    /// Backends went away by themselves; others take their place.
    Replaced {
        lost: u32,
        size: u32,
        decision: u64,
    },
    /// A backend that stays broken is drained and stopped, and another takes its place.
    Healing {
        backend: String,
        reason: String,
    },
    /// The scaler wanted more, or could not get what it wanted.
    ScaleBlocked {
        reason: String,
        /// It will pass by itself, as limits and cooldowns do.
        #[serde(skip)]
        routine: bool,
    },
    /// No backend of the service takes requests any more.
    NoHealthyBackends {
        reason: String,
    },
    /// A source of backends named others than before, or answers again.
    Discovered {
        source: String,
        backends: u64,
        joined: u64,
        left: u64,
    },
    /// A source of backends does not answer, or not with anything that can be used.
    DiscoveryFailed {
        source: String,
        error: String,
    },
    /// An orchestrator did not do what it was asked.
    OrchestratorFailed {
        operation: &'static str,
        error: String,
    },
    /// Clients of a listener are sent away for doing too much or too slowly, or it is over; `flood` is as in the metrics.
    Flood {
        listener: String,
        flood: &'static str,
        step: Step,
        /// How many connections or streams were ended since it began.
        ended: u64,
        /// From its beginning to the last of them.
        lasted_ms: u64,
    },
    /// A limit of a route refuses requests, or it is over: the name of a rate limit, or `concurrency_limit`.
    RequestFlood {
        route: String,
        limit: String,
        step: Step,
        /// Since it began.
        refused: u64,
        lasted_ms: u64,
    },
    /// A service turns requests away because more come than its backends take, or it is over.
    Shed {
        step: Step,
        /// Since it began.
        shed: u64,
        lasted_ms: u64,
    },
    /// An address is not let in for a while: it was refused too often. Or it is let in again.
    Ban {
        /// A network as `10.0.0.1/32`.
        address: String,
        step: BanStep,
        route: String,
        limit: String,
        /// How long it lasts, or would have lasted.
        for_ms: u64,
        /// How many more there were in the same second, which are not told one by one.
        #[serde(skip_serializing_if = "is_none")]
        more: usize,
    },
    /// The Redis of shared limits does not answer: each tidegate counts for itself. Or it answers again.
    SharedLimits {
        away: bool,
        #[serde(skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// `runtime.max_memory` is nearly used up: requests or connections are refused (`begun`), more of them than before
    /// (`worse`), or none any more (`ended`).
    MemoryPressure {
        step: PressureStep,
        /// `shed`, `critical`, `full` or `over`; at the end: the worst of them.
        level: &'static str,
        bytes: u64,
        limit_bytes: u64,
        /// The most since it began.
        peak_bytes: u64,
        /// Requests that were refused since it began.
        refused: u64,
    },
    Reload {
        generation: u64,
        restart_required: Vec<String>,
    },
    ReloadFailed {
        errors: Vec<String>,
    },
    /// An operator pinned or paused scaling, or ended that.
    Operator {
        order: String,
    },
    /// A certificate is about to be no longer valid, or is not any more.
    Certificate {
        file: String,
        names: Vec<String>,
        /// Whole days that are left; less than 0: it is not valid any more.
        days: i64,
    },
    /// The process is ending.
    Stopping {
        signal: String,
    },
    /// Another process is tidegate now; this one finishes what runs.
    HandedOver {
        pid: u32,
        took_ms: u64,
    },
    /// There should have been a hand-over; everything goes on as before.
    HandoverFailed {
        error: String,
    },
}

impl Kind {
    /// The event's name, as in the tag.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BackendState { .. } => "backend_state",
            Self::Drain { .. } => "drain",
            Self::BackendEjected { .. } => "backend_ejected",
            Self::BackendUnejected { .. } => "backend_unejected",
            Self::Crash { .. } => "crash",
            Self::Scaled { .. } => "scaled",
            Self::Replaced { .. } => "replaced",
            Self::Healing { .. } => "healing",
            Self::ScaleBlocked { .. } => "scale_blocked",
            Self::NoHealthyBackends { .. } => "no_healthy_backends",
            Self::Discovered { .. } => "discovered",
            Self::DiscoveryFailed { .. } => "discovery_failed",
            Self::OrchestratorFailed { .. } => "orchestrator_failed",
            Self::Flood { .. } => "flood",
            Self::RequestFlood { .. } => "request_flood",
            Self::Shed { .. } => "shed",
            Self::Ban { .. } => "ban",
            Self::SharedLimits { .. } => "shared_limits",
            Self::MemoryPressure { .. } => "memory_pressure",
            Self::Reload { .. } => "reload",
            Self::ReloadFailed { .. } => "reload_failed",
            Self::Operator { .. } => "operator",
            Self::Certificate { .. } => "certificate",
            Self::Stopping { .. } => "stopping",
            Self::HandedOver { .. } => "handed_over",
            Self::HandoverFailed { .. } => "handover_failed",
        }
    }

    /// The kind of event that `/v1/events` calls it.
    pub fn class(&self) -> EventKind {
        match self {
            Self::Drain { by: "operator", .. } | Self::Operator { .. } => EventKind::Operator,
            Self::BackendEjected { .. } | Self::BackendUnejected { .. } => EventKind::Ejection,
            Self::BackendState { .. }
            | Self::Drain { .. }
            | Self::Crash { .. }
            | Self::Discovered { .. }
            | Self::DiscoveryFailed { .. }
            | Self::NoHealthyBackends { .. } => EventKind::Backend,
            Self::Scaled { .. }
            | Self::Replaced { .. }
            | Self::Healing { .. }
            | Self::ScaleBlocked { .. }
            | Self::OrchestratorFailed { .. } => EventKind::Decision,
            Self::Flood { .. }
            | Self::RequestFlood { .. }
            | Self::Shed { .. }
            | Self::Ban { .. }
            | Self::SharedLimits { .. }
            | Self::MemoryPressure { .. } => EventKind::Flood,
            Self::Reload { .. }
            | Self::ReloadFailed { .. }
            | Self::Certificate { .. }
            | Self::Stopping { .. }
            | Self::HandedOver { .. }
            | Self::HandoverFailed { .. } => EventKind::Reload,
        }
    }

    /// Something an operator should look at, rather than the course of things.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::BackendState { state, .. } => *state == "unhealthy",
            Self::Drain { step, .. } => *step == DrainStep::Forced,
            Self::ScaleBlocked { routine, .. } => !routine,
            Self::SharedLimits { away, .. } => *away,
            Self::Ban { step, .. } => *step == BanStep::Begun,
            Self::Flood { step, .. }
            | Self::RequestFlood { step, .. }
            | Self::Shed { step, .. } => *step != Step::Ended,
            Self::MemoryPressure { step, .. } => *step != PressureStep::Ended,
            Self::BackendEjected { .. }
            | Self::Healing { .. }
            | Self::Crash { .. }
            | Self::NoHealthyBackends { .. }
            | Self::OrchestratorFailed { .. }
            | Self::DiscoveryFailed { .. }
            | Self::HandoverFailed { .. }
            | Self::Certificate { .. }
            | Self::ReloadFailed { .. } => true,
            Self::BackendUnejected { .. }
            | Self::Discovered { .. }
            | Self::Scaled { .. }
            | Self::Replaced { .. }
            | Self::Reload { .. }
            | Self::Operator { .. }
            | Self::HandedOver { .. }
            | Self::Stopping { .. } => false,
        }
    }
}

/// Where events are sent; clones send to the same stream.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Arc<view::Event>>,
    seq: Arc<AtomicU64>,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY), seq: Arc::default() }
    }
}

impl Events {
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<view::Event>> {
        self.sender.subscribe()
    }

    /// Tells everyone who listens, and the log. Never waits.
    pub fn send(&self, service: Option<&Arc<str>>, kind: Kind) {
        let quiet = matches!(kind, Kind::ScaleBlocked { routine: true, .. });
        self.send_as(service, kind, quiet);
    }

    /// The same, but the log tells of it only when it is asked for details: at the start and at
    /// the end everything comes and goes, which is no news.
    pub fn send_quietly(&self, service: Option<&Arc<str>>, kind: Kind) {
        self.send_as(service, kind, true);
    }

    fn send_as(&self, service: Option<&Arc<str>>, kind: Kind, quiet: bool) {
        let name = service.map_or("", |s| s);
        if quiet {
            tracing::debug!(target: "tidegate::event", service = name, event = kind.name(), "{}", kind.line());
        } else if kind.is_warning() {
            tracing::warn!(target: "tidegate::event", service = name, event = kind.name(), "{}", kind.line());
        } else {
            tracing::info!(target: "tidegate::event", service = name, event = kind.name(), "{}", kind.line());
        }
        let event = view::Event {
            id: self.seq.fetch_add(1, Relaxed) + 1,
            at: SystemTime::now().into(),
            kind: kind.class(),
            service: service.map(|s| s.to_string()),
            text: kind.line(),
            quiet,
            data: serde_json::to_value(&kind).unwrap_or_default(),
        };
        // An error means that nobody listens, which is fine.
        let _ = self.sender.send(Arc::new(event));
    }
}

fn is_none(n: &usize) -> bool {
    *n == 0
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}
