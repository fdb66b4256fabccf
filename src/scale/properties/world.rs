//! Random worlds for the scaler: what is configured, what is seen each second, what operators say.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::date;
use proptest::prelude::*;

use crate::config::types::{
    Algorithm, Hold, Metric, QueuePolicy, ScaleLimit, Scaling, ScalingMode, Schedule, Select,
    SloPolicy, Starts, ThresholdPolicy,
};
use crate::scale::fixture::{
    backends, concurrency, params, percent, sample, seconds, signal, target,
};
use crate::scale::{Candidate, Life, Override, Sample, Scaler, Signal, Tick, Traffic, WINDOW};

/// One second of an arbitrary world.
#[derive(Debug, Clone)]
pub struct World {
    load: f64,
    held: u32,
    cpu: Option<f64>,
    jobs: Option<f64>,
    /// Age of the oldest job.
    oldest: Option<f64>,
    response_time: Option<f64>,
    silent: u32,
    broken: u32,
    /// Backends of the ordered ones that are still starting.
    starting: u32,
    stale: bool,
    asked: bool,
    operator: Option<Order>,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Pin(u32, u64),
    Pause(u64),
    Nothing,
}

pub fn world() -> impl Strategy<Value = World> {
    let signals = (
        proptest::option::weighted(0.9, 0.0..1.2),
        proptest::option::weighted(0.9, (0..3000u32).prop_map(f64::from)),
        proptest::option::weighted(0.5, 0.0..300.0),
        proptest::option::weighted(0.9, 0.0..2.0),
    );
    let order = prop_oneof![
        (0..30u32, 1..20u64).prop_map(|(n, time)| Order::Pin(n, time)),
        (1..20u64).prop_map(Order::Pause),
        Just(Order::Nothing),
    ];
    let load = prop_oneof![2 => Just(0.0), 5 => 0.0..60.0];
    (load, 0..5u32, signals, (0..3u32, 0..3u32, 0..3u32), 0..20u32, 0..4u32, (0..40u32, order))
        .prop_map(
            |(
                load,
                held,
                (cpu, jobs, oldest, response_time),
                (silent, broken, starting),
                stale,
                asked,
                (ordered, order),
            )| World {
                load,
                held: held.saturating_sub(2),
                cpu,
                jobs,
                oldest,
                response_time,
                silent,
                broken,
                starting,
                stale: stale == 0,
                asked: asked == 0,
                operator: (ordered == 0).then_some(order),
            },
        )
}

fn limits() -> impl Strategy<Value = Vec<ScaleLimit>> {
    let limit = (any::<bool>(), 1..200u32, 1..6u32, 1..30u64);
    let limit = limit.prop_map(
        |(is_part, part, count, per)| {
            if is_part { percent(part, per) } else { backends(count, per) }
        },
    );
    prop::collection::vec(limit, 0..3)
}

/// Half a minute from the twentieth second of the samples on.
fn schedules() -> impl Strategy<Value = Vec<Arc<Schedule>>> {
    let bounds = (
        proptest::option::of(0..8u32),
        proptest::option::of(8..14u32),
        proptest::option::of(0..20u32),
    );
    let one = bounds.prop_map(|(min, max, desired)| {
        Arc::new(Schedule {
            name: "some".into(),
            // The fixture's samples begin at 22:13:20 of that day.
            starts: Starts::Once(date(2023, 11, 14).at(22, 13, 40, 0)),
            lasts: seconds(30),
            zone: jiff::tz::TimeZone::UTC,
            min,
            max,
            desired,
        })
    });
    prop::collection::vec(one, 0..2)
}

pub fn any_params() -> impl Strategy<Value = Scaling> {
    let bounds = (0..4u32, 0..16u32);
    let times = (0..3u64, 0..20u64, 0..10u64);
    let select =
        || prop_oneof![4 => Just(Select::Max), 3 => Just(Select::Min), 1 => Just(Select::Disabled)];
    let rest = (0..3u32, any::<bool>(), schedules(), 0..8u32);
    (bounds, times, (limits(), limits()), (select(), select()), which(), rest).prop_map(
        |(
            (min, above),
            (cooldown, down, up),
            limits,
            select,
            (which, algorithm),
            (surge, budget, schedules, mode),
        )| {
            let mut params = params();
            (params.min, params.max) = (min, (min + above).max(1));
            params.concurrency = (which & 1 > 0).then(|| concurrency(4.0, 0.7)).flatten();
            if which & 2 > 0 {
                params.targets = vec![("cpu".into(), target(Metric::Cpu, 0.6))];
            }
            if which & 4 > 0 {
                let metric = Metric::External("jobs".into());
                let queue = QueuePolicy { metric, per_backend: 150.0, max_age: seconds(100) };
                params.queues = vec![("jobs".into(), queue)];
            }
            if which & 8 > 0 {
                params.thresholds = vec![("slow".into(), threshold(algorithm))];
            }
            // Half of them have to learn all of it.
            if which & 16 > 0 {
                params.slo = Some(slo(which & 32 > 0));
            }
            (params.up.limits, params.down.limits) = limits;
            (params.up.select, params.down.select) = select;
            params.up.cooldown = seconds(cooldown);
            params.down.cooldown = seconds(2 * cooldown);
            params.down.stabilization = seconds(down);
            params.up.stabilization = seconds(up);
            params.max_surge = surge;
            params.cost.per_backend_hour = 1.0;
            params.cost.budget_per_month = if budget { 40.0 } else { 0.0 };
            params.schedules = schedules;
            params.mode = if mode == 0 { ScalingMode::UpOnly } else { ScalingMode::On };
            params.hold = (min == 0).then(hold);
            params
        },
    )
}

/// Bits of the policies there are, at least one of them, and how a threshold moves.
fn which() -> impl Strategy<Value = (u32, Algorithm)> {
    ((1..32u32, any::<bool>()), algorithm())
        .prop_map(|((which, known), algorithm)| (which | u32::from(known) << 5, algorithm))
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(vec![Algorithm::Linear, Algorithm::Exponential, Algorithm::Predictive])
}

fn threshold(algorithm: Algorithm) -> ThresholdPolicy {
    let (metric, quantile, window) = (Metric::ResponseTime, 0.95, WINDOW);
    ThresholdPolicy { metric, quantile, window, up_above: 1.0, down_below: 0.2, algorithm }
}

fn slo(known: bool) -> SloPolicy {
    SloPolicy {
        latency: known.then_some(Duration::from_millis(450)),
        quantile: 0.99,
        headroom: 1.25,
        max_utilization: 0.95,
        wait_probability: 0.002,
        slots: known.then_some(4.0),
        service_time: known.then_some(Duration::from_millis(100)),
        lead_time: seconds(30),
        seasonal: true,
    }
}

/// What `slo` sees of a load that takes 100 ms a request, with as many waiting as do not fit.
fn traffic(load: f64, ready: u32) -> Traffic {
    let done = (10.0 * load).min(40.0 * f64::from(ready)).floor();
    let mean = if done > 0.0 { load.max(1.0) / done } else { 0.0 };
    Traffic {
        arrivals: (10.0 * load).floor(),
        busy: load,
        finished: done as u64,
        mean,
        durations: if done > 0.0 { vec![(mean, done as u64)] } else { Vec::new() },
        ..Traffic::default()
    }
}

fn hold() -> Hold {
    Hold {
        idle_after: seconds(8),
        queue: 10,
        bytes: 1 << 20,
        per_client: 10,
        timeout: seconds(30),
        ignore_paths: Vec::new(),
        page: None,
        slots: 5,
    }
}

/// A second that was played: what was seen, what came of it, and what was wanted before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    pub sample: Sample,
    pub tick: Tick,
    pub from: u32,
    pub to: u32,
    pub pinned: bool,
}

fn candidates(sample: &Sample, load: f64) -> Vec<Candidate> {
    let (ready, starting) = (sample.counts.ready, sample.counts.starting);
    let one = |life| {
        move |i: u32| Candidate {
            id: format!("{life:?}-{i}").into(),
            zone: None,
            life,
            broken: false,
            in_flight: u32::from(i == 0 && load > 0.0 && life == Life::Ready),
            latency: 0.0,
            since: u64::from(i),
        }
    };
    (0..ready).map(one(Life::Ready)).chain((0..starting).map(one(Life::Starting))).collect()
}

pub fn play(scaler: &mut Scaler, first: u64, mut size: u32, worlds: &[World]) -> Vec<Played> {
    let mut played = Vec::new();
    let mut wanted = size;
    let mut last_request = None;
    for (second, world) in (first..).zip(worlds) {
        let now = second * 1_000_000;
        let broken = world.broken.min(size);
        let starting = world.starting.min(size - broken);
        let ready = size - broken - starting;
        let mut sample = sample(second, ready, if ready > 0 { world.load } else { 0.0 });
        (sample.counts.unhealthy, sample.counts.starting) = (broken, starting);
        sample.queued = if ready == 0 { f64::from(world.held) } else { 0.0 };
        if world.asked || sample.queued > 0.0 {
            last_request = Some(now);
        }
        sample.last_request = last_request;
        sample.stale = world.stale;
        sample.spent = Some(second as f64);
        let missing = world.silent.min(ready);
        sample.signals = vec![
            Signal { missing, ..signal(Metric::Cpu, world.cpu) },
            Signal { oldest: world.oldest, ..signal(Metric::External("jobs".into()), world.jobs) },
            signal(Metric::ResponseTime, world.response_time),
        ];
        sample.traffic = traffic(if ready > 0 { world.load } else { 0.0 }, ready);
        sample.candidates = candidates(&sample, sample.in_flight);
        match world.operator {
            Some(Order::Pin(replicas, time)) => {
                let until = Some(now + time * 1_000_000);
                scaler.set_override(Some(Override::Pin { replicas, until }));
            }
            Some(Order::Pause(time)) => {
                scaler.set_override(Some(Override::Pause { until: Some(now + time * 1_000_000) }));
            }
            Some(Order::Nothing) => scaler.set_override(None),
            None => {}
        }
        let tick = scaler.tick(&sample);
        size = tick.plan.as_ref().map_or(size, |plan| plan.size);
        let (from, to) = (wanted, scaler.status().desired);
        wanted = to;
        let pinned = scaler.status().operator.is_some();
        played.push(Played { sample, tick, from, to, pinned });
    }
    played
}
