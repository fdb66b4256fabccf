//! The process as a whole.

use serde::{Deserialize, Serialize};

use super::{Problem, Time};

/// `GET /v1/status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub started_at: Time,
    pub uptime_s: f64,
    pub ready: bool,
    /// Data-plane threads.
    pub workers: u32,
    pub config_path: String,
    /// Grows by one with every configuration taken into use; the first is 1.
    pub config_generation: u64,
    /// `None` until there was one.
    pub last_reload: Option<LastReload>,
    pub listeners: Vec<Listener>,
    /// `None`: `runtime.max_memory` is not set.
    #[serde(default)]
    pub memory: Option<Memory>,
}

/// How the last reload ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastReload {
    pub at: Time,
    pub ok: bool,
    /// One line; `None` when it went well.
    pub error: Option<String>,
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// One bound address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    pub name: String,
    pub address: String,
    /// Open client connections of the whole listener.
    pub connections: u64,
}

/// What the process takes of what it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident.
    pub bytes: u64,
    pub limit_bytes: u64,
    /// `calm`, `trim` (unused memory is given back), `shed` (sheddable requests are refused), `critical` (all others
    /// but critical ones too), `full` (new connections wait) or `over` (every request is refused).
    pub level: String,
}
