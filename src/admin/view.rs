//! The JSON of the admin API, one struct per document.
//!
//! Field names are a contract: tools read them. Fields may be added, never renamed. The
//! command line clients read the same structs, and ignore fields they do not know.
//! Times are RFC 3339 in UTC, durations are in the unit that the name ends with.

mod ban;
mod cost;
mod discovery;
mod status;
mod time;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use ban::{Ban, Bans};
pub use cost::{BackendHours, Cost, Costs, Hint, Spend};
pub use discovery::Discovery;
pub use status::{LastReload, Listener, Memory, Status};
pub use time::Time;

use crate::config::types as config;
use crate::upstream::backend::Source;
use crate::upstream::gate::State;

/// `GET /v1/services` (a list of them, by name) and `GET /v1/services/{name}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    /// As in the configuration: `adaptive`.
    pub balance: String,
    /// Requests per second, mean of the last seconds.
    pub rps: f64,
    pub in_flight: u64,
    pub latency_ms: ServiceLatency,
    /// Share of requests that failed (5xx, of ours or of a backend), 0..=1.
    pub error_ratio: f64,
    pub limits: Limits,
    /// Fixed ones in file order, then the others by age.
    pub backends: Vec<Backend>,
    /// `None`: it has no `[service.NAME.scaling]`.
    pub scaling: Option<Scaling>,
    /// What brings backends besides numbers in the file and the orchestrator: fixed backends that
    /// are written as names, `[service.NAME.discovery]`, the admin API.
    #[serde(default)]
    pub discovery: Vec<Discovery>,
}

/// Of whole requests; `None` without requests in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceLatency {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
}

/// What a service is held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Further tries of a request.
    pub retry_attempts: u32,
    /// Share of requests that may be retried, 0..=1.
    pub retry_budget: f64,
    /// Share of healthy backends under which health is ignored; 0 = off.
    pub panic_threshold: f64,
    /// Requests that all backends may have in flight, as learned from an overload; `None` = no limit was learned.
    pub places: Option<u32>,
    /// Requests a second that are let in, which follows what the backends answer; `None` = as many as come.
    pub rate: Option<f64>,
    /// Share of requests dropped before they are sent, while backends turn requests away themselves; 0..=1.
    pub dropped: f64,
    /// Requests that wait for a place at a backend.
    pub queued: u32,
    /// How many times the present capacity the scaler brings soon, so that requests wait for it; `None` = no more than
    /// there is.
    pub expected: Option<f64>,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    pub id: String,
    /// `None` while it has none yet.
    pub address: Option<String>,
    pub state: BackendState,
    pub healthy: bool,
    /// While it is ejected: when it is tried again. What is past waits for a request.
    pub ejected_until: Option<Time>,
    /// Why: `5 consecutive failures, last: connection refused`.
    #[serde(default)]
    pub ejected_reason: Option<String>,
    pub weight: u32,
    pub backup: bool,
    pub in_flight: u64,
    pub rps: f64,
    pub latency_ms: BackendLatency,
    /// What `adaptive` multiplies its load with, 1..=256: 1 = as good as the others, more = slow or failing, and so
    /// it gets less. `None` with any other `balance`.
    #[serde(default)]
    pub slowness: Option<f64>,
    /// Its last report of its own load (`load_report`); 1 = all that it can do. `None` without one in three minutes.
    #[serde(default)]
    pub utilization: Option<f64>,
    /// Failed tries since it joined.
    pub errors: u64,
    pub zone: Option<String>,
    /// When it came into its state.
    pub since: Time,
    pub source: BackendSource,
    /// Share of its weight while it climbs in slow start, 0..=1; `None` = all of it.
    pub slow_start: Option<f64>,
    /// How long its state lasts at most from now: slow start, drain or start timeout.
    pub left_ms: Option<u64>,
    /// An operator asked for the drain; it stays until `undrain`.
    pub drained_by_operator: bool,
    /// Why it is not healthy, or how its last start failed: `connection refused`.
    pub last_error: Option<String>,
    /// Cores in use; `None` when its orchestrator cannot say.
    pub cpu: Option<f64>,
    pub memory_bytes: Option<u64>,
}

/// `None` without requests in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendLatency {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    /// Recent time to the head of an answer, peaks first: what `p2c_ewma` compares, whatever the service uses.
    pub ewma: Option<f64>,
    /// What a whole request takes in calm, as learned: what an overload is told by. It outlives the window, and a
    /// hand-over.
    #[serde(default)]
    pub calm: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    Pending,
    Starting,
    Ready,
    Draining,
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendSource {
    Fixed,
    Orchestrator,
    Dns,
    Srv,
    File,
    Admin,
}

/// The scaling part of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    pub mode: ScalingMode,
    /// As configured.
    pub min: u32,
    pub max: u32,
    /// What holds now: those of a schedule, where one has its own.
    pub effective_min: u32,
    pub effective_max: u32,
    /// Ready and starting backends.
    pub current: u32,
    pub desired: u32,
    /// The stage that held the last decision back: `cooldown`, `max`.
    pub limited_by: Option<String>,
    pub cooldown_until: Option<Time>,
    /// From the order of a backend to its first pass, p90 of the last starts.
    pub lead_time_ms: Option<f64>,
    #[serde(rename = "override")]
    pub overridden: Option<Override>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalingMode {
    On,
    UpOnly,
    DryRun,
    Off,
}

/// What an operator set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Override {
    Pin { replicas: u32, until: Option<Time> },
    Pause { until: Option<Time> },
}

/// `GET` and the answer to `PUT` and `DELETE /v1/services/{name}/scaling`: `value` is the
/// desired size, where other autoscalers look for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScalingValue {
    pub value: u32,
    #[serde(flatten)]
    pub scaling: Scaling,
}

/// `POST /v1/reload`, when it went well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadOk {
    pub generation: u64,
    /// Keys that changed and take effect with the next start only: `admin.listen`.
    pub restart_required: Vec<String>,
}

/// One mistake of a configuration, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub file: String,
    /// From 1; 0 = the file as a whole.
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// `POST /v1/services/{name}/record`: how it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    pub on: bool,
    /// Where it is, or was, written: `unix_second,requests`, a row a second.
    pub file: String,
}

/// One event of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with each event.
    pub id: u64,
    pub at: Time,
    pub kind: EventKind,
    /// `None` when it is of no one service.
    pub service: Option<String>,
    /// The same for a person, in one line, without time and service.
    #[serde(default)]
    pub text: String,
    /// The course of things, of which nobody has to be told.
    #[serde(skip)]
    pub quiet: bool,
    /// What happened: a decision is its record, a reload is [`ReloadOk`] or [`LastReload`].
    pub data: serde_json::Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A backend changed its state or its health.
    Backend,
    /// A scaling decision changed the size.
    Decision,
    Ejection,
    /// Clients were sent away for doing too much, or too slowly.
    Flood,
    Reload,
    /// An operator drained, pinned, paused, or ended that.
    Operator,
}

impl EventKind {
    /// The name of the event in the stream.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Decision => "decision",
            Self::Ejection => "ejection",
            Self::Flood => "flood",
            Self::Reload => "reload",
            Self::Operator => "operator",
        }
    }
}

impl From<State> for BackendState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Starting => Self::Starting,
            State::Ready => Self::Ready,
            State::Draining => Self::Draining,
            State::Gone => Self::Gone,
        }
    }
}

impl From<Source> for BackendSource {
    fn from(source: Source) -> Self {
        match source {
            Source::Fixed => Self::Fixed,
            Source::Orchestrator => Self::Orchestrator,
            Source::Dns => Self::Dns,
            Source::Srv => Self::Srv,
            Source::File => Self::File,
            Source::Admin => Self::Admin,
        }
    }
}

impl From<config::ScalingMode> for ScalingMode {
    fn from(mode: config::ScalingMode) -> Self {
        match mode {
            config::ScalingMode::On => Self::On,
            config::ScalingMode::UpOnly => Self::UpOnly,
            config::ScalingMode::DryRun => Self::DryRun,
            config::ScalingMode::Off => Self::Off,
        }
    }
}

impl From<crate::config::Problem> for Problem {
    fn from(problem: crate::config::Problem) -> Self {
        Self {
            file: problem.file.display().to_string(),
            line: problem.line,
            column: problem.column,
            message: problem.message,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}: {}", self.file, self.message),
            (line, column) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
        }
    }
}

impl From<Scaling> for ScalingValue {
    fn from(scaling: Scaling) -> Self {
        Self { value: scaling.desired, scaling }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_where_other_autoscalers_look_for_it() {
        let scaling = Scaling {
            mode: ScalingMode::UpOnly,
            min: 1,
            max: 8,
            effective_min: 3,
            effective_max: 8,
            current: 2,
            desired: 5,
            limited_by: Some("max".into()),
            cooldown_until: None,
            lead_time_ms: None,
            overridden: Some(Override::Pin { replicas: 5, until: None }),
        };
        let json = serde_json::to_value(ScalingValue::from(scaling.clone())).unwrap();
        assert_eq!(json["value"], 5);
        assert_eq!(json["mode"], "up_only");
        assert_eq!(
            json["override"],
            serde_json::json!({"mode": "pin", "replicas": 5, "until": null})
        );
        let back: ScalingValue = serde_json::from_value(json).unwrap();
        assert_eq!(back.scaling, scaling);
    }
}
