//! `[service.NAME.scaling]`: how many serve it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Schedule;

/// `[service.NAME.scaling]`
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    pub mode: ScalingMode,
    pub min: u32,
    pub max: u32,
    pub interval: Duration,
    /// 0 = `max`.
    pub max_surge: u32,
    /// Without any policy: there, with its defaults.
    pub slo: Option<SloPolicy>,
    pub concurrency: Option<ConcurrencyPolicy>,
    /// In file order, by name.
    pub targets: Vec<(Arc<str>, TargetPolicy)>,
    pub thresholds: Vec<(Arc<str>, ThresholdPolicy)>,
    pub cost: Cost,
    pub queues: Vec<(Arc<str>, QueuePolicy)>,
    pub schedules: Vec<Arc<Schedule>>,
    pub up: Behaviour,
    pub down: Behaviour,
    /// With `min = 0`.
    pub hold: Option<Hold>,
}

/// `[service.NAME.scaling.hold]`: what becomes of requests while nothing runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// Time without a request before the last backend goes.
    pub idle_after: Duration,
    /// Requests that may wait.
    pub queue: u32,
    /// Bytes of their heads.
    pub bytes: u64,
    /// Requests of one client that may wait.
    pub per_client: u32,
    pub timeout: Duration,
    /// They wake nobody. One that ends with `/` stands for all below it.
    pub ignore_paths: Vec<String>,
    /// Shown to browsers in place of waiting.
    pub page: Option<Bytes>,
    /// Requests that one backend is given at the same time: what the service's other keys say of that.
    pub slots: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalingMode {
    On,
    UpOnly,
    DryRun,
    Off,
}

/// What is `None` is learned.
#[derive(Debug, Clone, PartialEq)]
pub struct SloPolicy {
    /// What the quantile of the response time should stay under.
    pub latency: Option<Duration>,
    pub quantile: f64,
    /// At least 1.
    pub headroom: f64,
    pub max_utilization: f64,
    /// Share of requests that may wait for too long.
    pub wait_probability: f64,
    /// Requests that one backend serves well at the same time.
    pub slots: Option<f64>,
    /// Time of one request without waiting.
    pub service_time: Option<Duration>,
    /// From the order of a backend to its first request, until starts were seen.
    pub lead_time: Duration,
    /// What came at this time yesterday and last week counts, once that proved right.
    pub seasonal: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ConcurrencyPolicy {
    pub target: f64,
    pub utilization: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TargetPolicy {
    pub metric: Metric,
    /// For `response_time`.
    pub quantile: f64,
    /// For `response_time` and rates of errors: what they are taken over.
    pub window: Duration,
    /// In the metric's unit: ratio (cpu, rates of errors), bytes (memory), seconds (response_time), requests (in_flight,
    /// queued), requests/s (rps).
    pub value: f64,
    pub tolerance: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ThresholdPolicy {
    pub metric: Metric,
    pub quantile: f64,
    /// As of a target.
    pub window: Duration,
    pub up_above: f64,
    pub down_below: f64,
    pub algorithm: Algorithm,
}

/// How a threshold moves the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// By one.
    Linear,
    /// By half, doubled far above; down by a third.
    Exponential,
    /// By one, before the value is there: when its trend will be.
    Predictive,
}

/// Jobs that wait, over what one backend may have waiting.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuePolicy {
    pub metric: Metric,
    pub per_backend: f64,
    /// Of the oldest job; zero = it does not count.
    pub max_age: Duration,
}

/// What a policy looks at. CPU, memory, in-flight, queued, rps and connections are means per ready backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    Cpu,
    Memory,
    ResponseTime,
    /// 5xx among the answers.
    ErrorRate,
    /// 4xx among the answers, and those that clients gave up on (499).
    ClientErrorRate,
    InFlight,
    /// Requests that wait for a backend with room.
    Queued,
    Rps,
    Connections,
    /// `[metric.NAME]`: one number for the whole service.
    External(Arc<str>),
}

impl Metric {
    /// Taken over a window of time, and of the service as a whole.
    pub fn is_windowed(&self) -> bool {
        matches!(self, Self::ResponseTime) || self.is_of_errors()
    }

    /// A share of answers that are errors.
    pub fn is_of_errors(&self) -> bool {
        matches!(self, Self::ErrorRate | Self::ClientErrorRate)
    }
}

/// `[service.NAME.scaling.up]` and `.down`: Kubernetes HPA v2 `behavior`, same meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    pub stabilization: Duration,
    pub select: Select,
    pub limits: Vec<ScaleLimit>,
    pub cooldown: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    Max,
    Min,
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaleLimit {
    pub amount: LimitAmount,
    pub per: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LimitAmount {
    Percent(u32),
    Backends(u32),
}

/// `[service.NAME.scaling.cost]`
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// 0 = not known.
    pub per_backend_hour: f64,
    pub currency: String,
    /// 0 = none.
    pub budget_per_month: f64,
}
