//! `GET /v1/cost`: what backends came to.

use serde::{Deserialize, Serialize};

use super::Time;

/// `GET /v1/cost`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    pub since: Time,
    pub until: Time,
    /// Those that are scaled, by name.
    pub services: Vec<Cost>,
}

/// One service. Whole hours (UTC) from the first that was seen since then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub service: String,
    /// Hours that were seen; tidegate was not always there.
    pub observed_hours: f64,
    pub requests: f64,
    pub backend_hours: BackendHours,
    /// Share that was saved against always running `max`; less than 0 while more ran.
    pub saved_ratio: Option<f64>,
    /// Share that ran beyond the least possible.
    pub above_least_ratio: Option<f64>,
    /// With `cost.per_backend_hour`.
    pub spend: Option<Spend>,
    pub hints: Vec<Hint>,
}

/// Backend-hours: what was, and what could have been.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BackendHours {
    /// Everything that was there, also while it started or drained.
    pub ran: f64,
    /// Had there always been `max`.
    pub static_max: f64,
    /// Had there been at each moment what its load needed (and `min`), without any lead time.
    pub least: f64,
}

/// The same in money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spend {
    pub currency: String,
    pub per_backend_hour: f64,
    pub ran: f64,
    pub static_max: f64,
    pub least: f64,
    /// `None` without requests.
    pub per_million_requests: Option<f64>,
    /// Since the first of this month (UTC).
    pub month: f64,
    /// At the end of the month, if it goes on as on average so far.
    pub month_forecast: f64,
    /// `None` without one.
    pub month_budget: Option<f64>,
}

/// What could be better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    pub text: String,
    /// Configuration below `[service.NAME.scaling]`.
    pub toml: String,
}
