//! `[service.NAME.scaling]`: bounds, policies, behaviour up and down.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::reader::Reader;
use crate::config::tree::{Entry, Node, Place, Table, Value};
use crate::config::types::{
    Algorithm, Behaviour, ConcurrencyPolicy, Hold, LimitAmount, Metric, QueuePolicy, ScaleLimit,
    Scaling, ScalingMode, Select, SloPolicy, TargetPolicy, ThresholdPolicy,
};
use crate::config::values::{self, Wrong, wrong};

use super::{cost, fields, schedule};

/// The names of `[metric.NAME]`, in file order.
pub type MetricNames = [Arc<str>];

/// More backends of one service than anyone runs.
const MAX_BACKENDS: i64 = 100_000;

const METRICS: &[(&str, Metric)] = &[
    ("cpu", Metric::Cpu),
    ("memory", Metric::Memory),
    ("response_time", Metric::ResponseTime),
    ("error_rate", Metric::ErrorRate),
    ("client_error_rate", Metric::ClientErrorRate),
    ("in_flight", Metric::InFlight),
    ("queued", Metric::Queued),
    ("rps", Metric::Rps),
    ("connections", Metric::Connections),
];

pub fn read(r: &mut Reader<'_>, metrics: &MetricNames) -> Scaling {
    let targets = r.named("target", |name, r| (Arc::from(name), target(r, metrics)));
    let thresholds = r.named("threshold", |name, r| (Arc::from(name), threshold(r, metrics)));
    let queues: Vec<_> = r.named("queue", |name, r| (Arc::from(name), queue(r, metrics)));
    let concurrency = r.section_if("concurrency", concurrency);
    let tables = targets.len() + thresholds.len() + queues.len();
    let others = concurrency.is_some() || tables > 0;
    // The default policy when none is named.
    let slo = match others {
        true => r.section_if("slo", slo),
        false => Some(r.section("slo", slo)),
    };
    // `slo` has windows and limits of its own.
    let alone = slo.is_some() && !others;
    let slots = slots(slo.as_ref(), concurrency.as_ref());
    let hold = r.section("hold", |r| hold(r, slots));
    let mut scaling = Scaling {
        mode: r
            .one_of(
                "mode",
                &[
                    ("on", ScalingMode::On),
                    ("up_only", ScalingMode::UpOnly),
                    ("dry_run", ScalingMode::DryRun),
                    ("off", ScalingMode::Off),
                ],
            )
            .or("on"),
        min: r.int("min", 0..=MAX_BACKENDS).or(1),
        max: r.int("max", 1..=MAX_BACKENDS).required(),
        interval: r.period("interval").or("1s"),
        max_surge: r.int("max_surge", 0..=MAX_BACKENDS).or(0),
        slo,
        concurrency,
        targets,
        thresholds,
        cost: r.section("cost", cost::read),
        queues,
        schedules: r.sections("schedule", schedule::read).into_iter().map(Arc::new).collect(),
        up: r.section("up", |r| match alone {
            true => behaviour(r, "0s", &[]),
            false => behaviour(r, "0s", &[("percent", 100, "15s"), ("backends", 4, "15s")]),
        }),
        down: r.section("down", |r| match alone {
            true => behaviour(r, "0s", &[]),
            false => behaviour(r, "300s", &[("percent", 100, "15s")]),
        }),
        hold: None,
    };
    scaling.hold = (scaling.min == 0).then_some(hold);
    // A max of 0 was refused already.
    if scaling.max > 0 && scaling.min > scaling.max {
        let key = if r.has("min") { "min" } else { "max" };
        let (min, max) = (scaling.min, scaling.max);
        r.problem(key, format!("min {min} is above max {max}; write min ≤ max"));
    }
    scaling
}

/// Most requests that may be held for one service.
const MAX_HELD: i64 = 1_000_000;
/// Longest page for browsers.
const MAX_PAGE: u64 = 1 << 20;

fn hold(r: &mut Reader<'_>, slots: u32) -> Hold {
    let page = fields::file(r, "page", page);
    Hold {
        idle_after: r.period("idle_after").or("5m"),
        queue: r.int("queue", 1..=MAX_HELD).or(1000),
        bytes: r.size("bytes").or("16MiB"),
        per_client: r.int("per_client", 1..=MAX_HELD).or(100),
        timeout: r.period("timeout").or("30s"),
        ignore_paths: r
            .strings("ignore_paths")
            .and(|paths| paths.into_iter().map(fields::request_path).collect())
            .or(Node::Array(Vec::new())),
        // It was readable a moment ago.
        page: page.and_then(|path| std::fs::read(path).ok()).map(Bytes::from),
        slots,
    }
}

fn page(path: PathBuf) -> Result<PathBuf, String> {
    let name = path.display();
    let cannot = |error| format!("{name} cannot be read: {error}");
    let length = std::fs::File::open(&path).and_then(|file| file.metadata()).map_err(cannot)?.len();
    match length <= MAX_PAGE {
        true => Ok(path),
        false => Err(format!("{name} has more than 1 MiB; write a smaller page")),
    }
}

/// Requests that one backend serves well at the same time, as far as it is written.
fn slots(slo: Option<&SloPolicy>, concurrency: Option<&ConcurrencyPolicy>) -> u32 {
    const UNKNOWN: f64 = 10.0;
    let slots = slo.and_then(|slo| slo.slots).or(concurrency.map(|policy| policy.target));
    slots.unwrap_or(UNKNOWN).ceil().max(1.0) as u32
}

fn slo(r: &mut Reader<'_>) -> SloPolicy {
    let quantile = r
        .ratio("quantile")
        .and(|q| match (0.5..1.0).contains(&q) {
            true => Ok(q),
            false => Err(format!("{q} is no goal; write one from 0.5 to below 1, such as 0.99")),
        })
        .or(0.99);
    let wait_probability = r
        .field("wait_probability", |value| auto_or(value, values::ratio))
        .and(|share| match share {
            Some(share) if share <= 0.0 || share >= 1.0 => {
                Err("write a share above 0 and below 1, such as 0.002, or \"auto\"".to_owned())
            }
            share => Ok(share),
        })
        .or("auto");
    SloPolicy {
        latency: r.field("latency", |value| auto_or(value, values::period)).or("auto"),
        quantile,
        headroom: r.number("headroom", 1.0..=10.0).or(1.25),
        max_utilization: r.ratio("max_utilization").and(above_zero).or(0.95),
        wait_probability: wait_probability.unwrap_or((1.0 - quantile) / 5.0),
        slots: r
            .field("slots", |value| auto_or(value, |v| values::number(v, &(1.0..=1e5))))
            .or("auto"),
        service_time: r.field("service_time", |value| auto_or(value, values::period)).or("auto"),
        lead_time: r.duration("lead_time").or("30s"),
        seasonal: r.bool("seasonal").or(true),
    }
}

/// A value, or `"auto"` where it is to be learned.
fn auto_or<T>(
    value: &Value,
    parse: impl Fn(&Value) -> Result<T, Wrong>,
) -> Result<Option<T>, Wrong> {
    match &value.node {
        Node::String(text) if text == "auto" => Ok(None),
        _ => parse(value).map(Some),
    }
}

fn concurrency(r: &mut Reader<'_>) -> ConcurrencyPolicy {
    ConcurrencyPolicy {
        target: r.number("target", 0.01..=1e6).or(10),
        utilization: r.ratio("utilization").and(above_zero).or(0.7),
    }
}

fn target(r: &mut Reader<'_>, metrics: &MetricNames) -> TargetPolicy {
    let metric = metric(r, metrics);
    let of = metric.clone();
    TargetPolicy {
        metric,
        quantile: r.ratio("quantile").and(above_zero).or(0.95),
        window: window(r),
        value: r
            .field("value", move |value| level(&of, value))
            .and(|value| match value > 0.0 {
                true => Ok(value),
                false => Err("a target of zero; write one above it".to_owned()),
            })
            .required(),
        tolerance: r.ratio("tolerance").or(0.1),
    }
}

fn threshold(r: &mut Reader<'_>, metrics: &MetricNames) -> ThresholdPolicy {
    let metric = metric(r, metrics);
    let (above, below) = (metric.clone(), metric.clone());
    let policy = ThresholdPolicy {
        metric,
        quantile: r.ratio("quantile").and(above_zero).or(0.95),
        window: window(r),
        up_above: r.field("up_above", move |value| level(&above, value)).required(),
        down_below: r.field("down_below", move |value| level(&below, value)).required(),
        algorithm: r
            .one_of(
                "algorithm",
                &[
                    ("linear", Algorithm::Linear),
                    ("exponential", Algorithm::Exponential),
                    ("predictive", Algorithm::Predictive),
                ],
            )
            .or("linear"),
    };
    if r.has("up_above") && r.has("down_below") && policy.down_below > policy.up_above {
        r.problem("down_below", "down_below is above up_above; write down_below ≤ up_above");
    }
    policy
}

/// What response times and errors are taken over.
fn window(r: &mut Reader<'_>) -> Duration {
    const LONGEST: Duration = Duration::from_secs(300);
    r.period("window")
        .and(|window| match (Duration::from_secs(1)..=LONGEST).contains(&window) {
            true => Ok(window),
            false => Err("write a time from 1s to 5m".to_owned()),
        })
        .or("15s")
}

fn queue(r: &mut Reader<'_>, metrics: &MetricNames) -> QueuePolicy {
    QueuePolicy {
        metric: metric(r, metrics),
        per_backend: r.number("per_backend", 0.001..=1e9).or(100),
        max_age: r.duration("max_age").or("0s"),
    }
}

/// One of ours, or the name of a `[metric.NAME]`.
fn metric(r: &mut Reader<'_>, metrics: &MetricNames) -> Metric {
    let names = metrics.to_vec();
    let parse = move |value: &Value| {
        let text = values::string(value)?;
        let own = METRICS.iter().find(|(word, _)| *word == text).map(|(_, metric)| metric.clone());
        let external = || names.iter().find(|name| ***name == *text).cloned().map(Metric::External);
        own.or_else(external).map_or_else(
            || {
                let words = METRICS.iter().map(|(word, _)| *word);
                let there = fields::there_are(words.chain(names.iter().map(|name| &**name)));
                wrong(value, format!("{text:?} is not known here; {there}; or add [metric.{text}]"))
            },
            Ok,
        )
    };
    r.field("metric", parse).required_or(Metric::InFlight)
}

/// Whether that is the name of a metric of ours.
pub fn is_own_metric(name: &str) -> bool {
    METRICS.iter().any(|(own, _)| *own == name)
}

fn above_zero(ratio: f64) -> Result<f64, String> {
    match ratio > 0.0 {
        true => Ok(ratio),
        false => Err("0 leaves nothing; write a ratio above it, such as 0.7".to_owned()),
    }
}

/// A value of a metric, in its unit.
fn level(metric: &Metric, value: &Value) -> Result<f64, Wrong> {
    match metric {
        // More than one core is more than 100 %.
        Metric::Cpu => match &value.node {
            Node::String(text) if text.ends_with('%') => values::ratio(value),
            _ => values::number(value, &(0.0..=1024.0)),
        },
        Metric::ErrorRate | Metric::ClientErrorRate => values::ratio(value),
        Metric::Memory => values::size(value).map(|bytes| bytes as f64),
        Metric::ResponseTime => values::duration(value).map(|time| time.as_secs_f64()),
        Metric::InFlight
        | Metric::Queued
        | Metric::Rps
        | Metric::Connections
        | Metric::External(_) => values::number(value, &(0.0..=f64::INFINITY)),
    }
}

type DefaultLimit = (&'static str, i64, &'static str);

fn behaviour(
    r: &mut Reader<'_>,
    stabilization: &'static str,
    limits: &[DefaultLimit],
) -> Behaviour {
    Behaviour {
        stabilization: r.duration("stabilization").or(stabilization),
        select: r
            .one_of(
                "select",
                &[("max", Select::Max), ("min", Select::Min), ("disabled", Select::Disabled)],
            )
            .or("max"),
        limits: r.list("limits", limit).or(default_limits(limits)),
        cooldown: r.duration("cooldown").or("0s"),
    }
}

fn limit(value: &Value) -> Result<ScaleLimit, Wrong> {
    let right = "write { percent = 100, per = \"15s\" } or { backends = 4, per = \"15s\" }";
    let Node::Table(table) = &value.node else {
        return wrong(value, format!("{} where a table belongs; {right}", value.node.type_name()));
    };
    let ((percent, backends, per), problems) = table.read(|r| {
        (
            r.int("percent", 1..=100_000).optional(),
            r.int("backends", 1..=MAX_BACKENDS).optional(),
            r.period("per").required(),
        )
    });
    if !problems.is_empty() {
        let at = |line, column| Place { line, column, ..value.place.clone() };
        return Err(problems.into_iter().map(|p| (at(p.line, p.column), p.message)).collect());
    }
    let amount = match (percent, backends) {
        (Some(percent), None) => LimitAmount::Percent(percent),
        (None, Some(backends)) => LimitAmount::Backends(backends),
        _ => return wrong(value, format!("a limit is either of percent or of backends; {right}")),
    };
    Ok(ScaleLimit { amount, per })
}

fn default_limits(limits: &[DefaultLimit]) -> Node {
    let place = Place::default();
    let entry = |key: &str, node: Node| Entry {
        key: key.to_owned(),
        key_place: place.clone(),
        value: Value::built_in(node, place.clone()),
    };
    let one = |(unit, amount, per): &DefaultLimit| {
        let entries = vec![entry(unit, Node::Integer(*amount)), entry("per", Node::from(*per))];
        Value::built_in(Node::Table(Table { entries, ..Table::default() }), place.clone())
    };
    Node::Array(limits.iter().map(one).collect())
}
