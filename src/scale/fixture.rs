//! What the tests of the scaler start from: a configuration with the HPA's defaults, and samples.

use std::time::Duration;

use crate::config::types::{
    Behaviour, ConcurrencyPolicy, Cost, LimitAmount, Metric, ScaleLimit, Scaling, ScalingMode,
    Select, TargetPolicy,
};

use super::{Counts, Sample, Scaler, Signal, Tick, WINDOW, Wall};

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn percent(n: u32, per: u64) -> ScaleLimit {
    ScaleLimit { amount: LimitAmount::Percent(n), per: seconds(per) }
}

pub(crate) fn backends(n: u32, per: u64) -> ScaleLimit {
    ScaleLimit { amount: LimitAmount::Backends(n), per: seconds(per) }
}

/// The HPA's default behaviour, 1 to 100 backends, no policy.
pub(crate) fn params() -> Scaling {
    Scaling {
        cost: Cost { per_backend_hour: 0.0, currency: "USD".into(), budget_per_month: 0.0 },
        mode: ScalingMode::On,
        min: 1,
        max: 100,
        interval: seconds(1),
        max_surge: 0,
        slo: None,
        concurrency: None,
        targets: Vec::new(),
        thresholds: Vec::new(),
        queues: Vec::new(),
        schedules: Vec::new(),
        up: Behaviour {
            stabilization: Duration::ZERO,
            select: Select::Max,
            limits: vec![percent(100, 15), backends(4, 15)],
            cooldown: Duration::ZERO,
        },
        down: Behaviour {
            stabilization: seconds(300),
            select: Select::Max,
            limits: vec![percent(100, 15)],
            cooldown: Duration::ZERO,
        },
        hold: None,
    }
}

/// Decides at once: no limits, no windows.
pub(crate) fn quick() -> Scaling {
    let mut params = params();
    params.up.limits.clear();
    params.down.limits.clear();
    params.down.stabilization = Duration::ZERO;
    params
}

pub(crate) fn concurrency(target: f64, utilization: f64) -> Option<ConcurrencyPolicy> {
    Some(ConcurrencyPolicy { target, utilization })
}

pub(crate) fn target(metric: Metric, value: f64) -> TargetPolicy {
    TargetPolicy { metric, quantile: 0.95, window: WINDOW, value, tolerance: 0.1 }
}

/// A second, seen from a service with that many ready backends.
pub(crate) fn sample(second: u64, ready: u32, in_flight: f64) -> Sample {
    Sample {
        at: second * 1_000_000,
        wall: Wall(1_700_000_000_000 + second * 1000),
        span: seconds(1),
        counts: Counts { ready, ..Counts::default() },
        in_flight,
        ..Sample::default()
    }
}

pub(crate) fn signal(metric: Metric, value: Option<f64>) -> Signal {
    let quantile = if metric == Metric::ResponseTime { 0.95 } else { 0.0 };
    let age = Duration::ZERO;
    Signal { metric, quantile, window: WINDOW, value, missing: 0, age, oldest: None }
}

pub(crate) fn scaler(params: Scaling) -> Scaler {
    Scaler::new("app".into(), params, 1)
}

/// Ticks once a second with a constant load; every order is carried out at once.
pub(crate) fn run(
    scaler: &mut Scaler,
    seconds: std::ops::Range<u64>,
    ready: &mut u32,
    in_flight: f64,
) -> Vec<Tick> {
    let mut ticks = Vec::new();
    for second in seconds {
        let tick = scaler.tick(&sample(second, *ready, in_flight));
        *ready = tick.plan.as_ref().map_or(*ready, |plan| plan.size);
        ticks.push(tick);
    }
    ticks
}
