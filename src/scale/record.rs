//! The record of one decision: what was seen, who wanted what, what limited it, what was done.
//!
//! One is made for every change of size and for every refusal of one (when it begins or its
//! reason changes). Each proposal's formula, evaluated, gives its number. Turning a record into
//! sentences is left to [`super::explain`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::Wall;

/// Why the scaler did or refused something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Grows by one with every record of the service.
    pub seq: u64,
    pub time: Wall,
    pub service: String,
    pub current: Current,
    /// The number the decision started from: what was wanted before it.
    pub from: u32,
    pub min: u32,
    pub max: u32,
    pub signals: Vec<SignalSeen>,
    pub proposals: Vec<Proposed>,
    /// The policy whose wish counted; `None` when nobody could propose anything.
    pub winner: Option<String>,
    /// Stages that changed the number, in their order.
    pub steps: Vec<Step>,
    pub action: Action,
    /// What the size would have become without a stage, by the stage's name.
    pub without: BTreeMap<Stage, u32>,
    /// What an hour costs with it; null only in records of before it was told.
    #[serde(default, deserialize_with = "cost_or_none")]
    pub cost: Option<HourlyCost>,
    /// Nothing is removed before, if the load stays as it is.
    #[serde(default)]
    pub not_down_before: Option<Wall>,
    /// What came of it; filled in later.
    pub outcome: Option<Outcome>,
}

/// Backends at the time of the decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Ready, healthy and not ejected.
    pub ready: u32,
    pub starting: u32,
    pub draining: u32,
    #[serde(default)]
    pub unhealthy: u32,
    #[serde(default)]
    pub ejected: u32,
}

/// One signal that a policy looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalSeen {
    /// `cpu`, `response_time p95`
    pub name: String,
    pub value: Option<f64>,
    /// Ready backends without a value.
    pub missing: u32,
    pub age_ms: u64,
}

/// One policy's wish.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposed {
    pub policy: String,
    /// What it proposes.
    pub n: u32,
    /// `ceil(17.3 in flight ÷ (0.7 × 4)) = 7`: the arithmetic with its numbers.
    pub formula: String,
    /// The formula's number; other than `n` only if it was `held`.
    pub wanted: u32,
    /// What decided about the formula's number, where the policy tells that.
    #[serde(default)]
    pub cause: Option<Reason>,
    /// Why `n` is the present size and not what the formula says.
    pub held: Option<Reason>,
    /// False: it has no data. It then proposes the present size, and nothing is removed.
    pub valid: bool,
    /// More for people: `panic mode`, `response_time p95 is 1.2 s, above 1 s`.
    pub note: Option<String>,
}

/// One stage that changed the number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub stage: Stage,
    #[serde(rename = "in")]
    pub from: u32,
    #[serde(rename = "out")]
    pub to: u32,
    pub reason: Reason,
    /// When the reason ends, if that is known.
    pub until: Option<Wall>,
}

/// The stages of the pipeline, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Down only if every policy has data.
    Validity,
    /// Schedules and forecasts.
    Floors,
    HealthGate,
    Tolerance,
    Stabilization,
    Limits,
    Cooldown,
    Clamp,
    /// `cost.budget_per_month`
    Budget,
    Projection,
    /// `max_surge`
    Surge,
    /// Pins and pauses by an operator.
    Operator,
    /// `mode`
    Mode,
}

/// Why a number was changed or an action taken. A closed list: every other text is made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A policy's wish.
    Policy,
    /// `slo`: the rate of now.
    Level,
    /// `slo`: the rate rises.
    Trend,
    /// `slo`: more waits than can be cleared in time.
    Backlog,
    /// `slo`: more came at this time yesterday or last week.
    Seasonal,
    /// `slo`: so many were needed within the last 60 s.
    Hold60,
    /// `slo`: a small step down, and so many were needed within the last 180 s.
    Hold180,
    /// `slo`: the rate fell by more than half.
    Collapse,
    /// `slo`: the time of a request alone leaves no room to wait. More backends do not help.
    SloUnreachable,
    /// `slo`: slots and service time are not known yet.
    Learning,
    /// `slo`: backends that were added brought no throughput: something behind them is full.
    DownstreamBound,
    /// The ratio to the target is within the tolerance.
    Tolerance,
    /// With the backends that do not report counted in, the direction would turn.
    DirectionTurned,
    /// A policy's metric is not there.
    MetricMissing,
    /// No telemetry for more than three ticks.
    Stale,
    /// No telemetry this tick: up only.
    StaleUpOnly,
    /// Errors without a sign of saturation are no reason to add backends.
    ErrorsWithoutSaturation,
    /// Backends that are unhealthy or ejected are no capacity.
    BrokenBackends,
    /// The smallest (upwards) or largest (downwards) wish of the stabilization window counts.
    Stabilization,
    /// The stabilization window is doubled: the size went up and down too often.
    Flapping,
    /// As much as the limits allow within their periods.
    Limit,
    /// `select = "disabled"`.
    Disabled,
    Cooldown,
    /// The size was changed from outside; nothing is done for a while.
    OutsideCooldown,
    /// After a restart nothing is removed for one window.
    RestartHold,
    /// A schedule asks for more.
    Scheduled,
    AtMin,
    AtMax,
    /// This month's budget is spent: nothing is added.
    Budget,
    /// With `min = 0`: no request for `idle_after`.
    Idle,
    /// With `min = 0`: there was a request within `idle_after`.
    Awake,
    /// Fewer than `min` are healthy: nothing is removed.
    MinHealthy,
    /// With fewer, the policies' present demand would not fit.
    Projection,
    MaxSurge,
    /// The same, of what was wanted for a backlog: it is cleared later than it could be.
    BacklogSurge,
    Pinned,
    Paused,
    UpOnly,
    DryRun,
    Off,
    /// A backend went away by itself and is replaced.
    BackendLost,
    /// Someone else changed the size; it is adopted.
    OutsideChange,
}

impl Reason {
    /// The size is what a policy asked for; the record's winner has the formula.
    pub fn is_wish(self) -> bool {
        matches!(
            self,
            Self::Policy
                | Self::Level
                | Self::Trend
                | Self::Backlog
                | Self::Seasonal
                | Self::Hold60
                | Self::Hold180
                | Self::Collapse
                | Self::SloUnreachable
                | Self::Learning
        )
    }
}

/// What an hour costs before and after a decision, in the words of `/v1/cost`. Sizes count, so what drains is not in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HourlyCost {
    /// In an hour there are as many as there are backends.
    pub backend_hours: PerHour,
    /// With `cost.per_backend_hour`.
    pub spend: Option<HourlySpend>,
}

/// One measure, by the hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PerHour {
    pub before: f64,
    pub after: f64,
    /// With what was wanted and not done; `None` where nothing else was wanted.
    pub wanted: Option<f64>,
}

/// The same in money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HourlySpend {
    pub currency: String,
    pub per_backend_hour: f64,
    pub before: f64,
    pub after: f64,
    pub wanted: Option<f64>,
}

/// Once it was a number, the price of the new size.
fn cost_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HourlyCost>, D::Error> {
    let told = serde_json::Value::deserialize(from)?;
    let cost = told.is_object().then(|| HourlyCost::deserialize(told));
    cost.transpose().map_err(de::Error::custom)
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action {
    /// The wanted size changed.
    Scale {
        from: u32,
        to: u32,
        /// Draining ones that were brought back.
        undrain: Vec<String>,
        /// New ones ordered now.
        start: u32,
        /// Starting ones that were called off.
        cancel: Vec<String>,
        drain: Vec<String>,
        reason: Reason,
    },
    /// A change was wanted and refused.
    Refuse { at: u32, wanted: u32, reason: Reason },
    /// Backends went away by themselves; the size stays.
    Replace { size: u32, lost: u32 },
    /// The size was changed from outside.
    Adopt { from: u32, to: u32 },
    /// `mode = "dry_run"`: what would have been done.
    DryRun { from: u32, to: u32 },
}

/// What came of a change of size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// From the decision until that many were ready; `None`: it did not come to that.
    pub time_to_ready_ms: Option<u64>,
    /// Ready backends at the end.
    pub ready: u32,
    /// p99 of the response time when it was decided, in ms.
    pub p99_before_ms: Option<f64>,
    /// The same once the outcome was known.
    pub p99_after_ms: Option<f64>,
}
