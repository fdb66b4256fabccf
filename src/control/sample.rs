//! What one tick saw of one service, gathered from the registry, the windows and the usage that
//! its orchestrator reports. Judging it is left to `scale`.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::{self as config, Metric};
use crate::orchestrator::Usage;
use crate::registry::{Entry, Pool};
use crate::scale::{Candidate, Counts, Life, Sample, Signal, Traffic, WINDOW, Wanted};
use crate::signals::Signals;
use crate::telemetry::window::{ServiceReading, Windows};
use crate::upstream::gate::State;

use super::life::TICK;
use super::managed::Measured;
use super::status::RECENT;

/// The window of the p99 that outcomes compare.
const OUTCOME_SPAN: Duration = Duration::from_secs(15);

/// A load so many times above capacity counts as this much above it: one step at a time.
const MOST_WANTED: f64 = 10.0;

/// Starts after which the measured lead time is believed.
const STARTS_KNOWN: u64 = 5;

/// Where a sample comes from.
pub struct From<'a> {
    pub service: &'a Arc<str>,
    pub pool: Option<&'a Pool>,
    pub windows: &'a Windows,
    pub signals: &'a Signals,
    pub usage: &'a Measured,
    pub wanted: &'a [Wanted],
    pub now: Micros,
    pub span: Duration,
}

/// The longest window of a service that anyone looks at: here, or for status.
pub fn longest(service: &config::Service) -> Duration {
    let scaling = service.scaling.as_ref().map_or(Duration::ZERO, |scaling| {
        // A decision looks back to the one before, which may have come late.
        let targets = scaling.targets.iter().map(|(_, policy)| policy.window);
        let thresholds = scaling.thresholds.iter().map(|(_, policy)| policy.window);
        let windows = targets.chain(thresholds).chain([WINDOW, scaling.interval + TICK]);
        windows.max().unwrap_or(WINDOW)
    });
    scaling.max(OUTCOME_SPAN).max(RECENT)
}

/// Gathers it. `wall` and `desired` are left to the caller.
pub fn take(from: &From<'_>) -> Sample {
    // Backends that somebody else starts and stops are counted all the same, and never chosen from.
    let elsewhere = from.pool.is_some_and(is_elsewhere);
    let ours = |e: &&Entry| elsewhere || e.is_orchestrated();
    let entries: Vec<&Entry> = from.pool.into_iter().flat_map(Pool::entries).filter(ours).collect();
    let traffic = from.windows.service(from.service, from.span);
    let p99 =
        from.windows.service(from.service, OUTCOME_SPAN).and_then(|reading| reading.seconds(0.99));
    // They are in flight already, as clients see it.
    let queued = from.pool.map_or(0.0, |pool| f64::from(pool.queued()));
    Sample {
        at: from.now,
        span: from.span,
        counts: counts(&entries),
        in_flight: traffic.as_ref().map_or(0.0, |t| (t.in_flight - queued).max(0.0) * wanted(t)),
        queued,
        last_request: from.pool.and_then(last_request),
        traffic: traffic.as_ref().map(|t| arrived(t, queued)).unwrap_or_default(),
        fixed: from.pool.map_or(0, |pool| {
            pool.entries().filter(|e| !ours(e) && e.is_available()).count() as u32
        }),
        lead: from
            .pool
            .filter(|pool| pool.starts().count() >= STARTS_KNOWN)
            .and_then(Pool::lead_time),
        signals: from.wanted.iter().map(|wanted| signal(from, wanted, &entries)).collect(),
        p99,
        candidates: match elsewhere {
            true => Vec::new(),
            false => entries.iter().filter_map(|e| candidate(e, from.now)).collect(),
        },
        // Before its second tick a window has nothing to say yet.
        stale: traffic.is_none(),
        ..Sample::default()
    }
}

/// What was in flight, taken so many times, is what would have been if nothing had been turned away.
fn wanted(reading: &ServiceReading) -> f64 {
    let arrived = reading.rps * reading.span.as_secs_f64();
    let served = arrived - reading.shed as f64;
    if reading.shed == 0 { 1.0 } else { (arrived / served.max(1.0)).clamp(1.0, MOST_WANTED) }
}

/// Where nothing is known of requests, what runs has not been asked since it started.
fn last_request(pool: &Pool) -> Option<Micros> {
    let started = || {
        let running = pool.entries().filter(|e| e.is_orchestrated() && !is_leaving(e));
        running.map(|e| e.since).max()
    };
    pool.hold().last().or_else(started)
}

/// Whether somebody else starts and stops its backends.
pub fn is_elsewhere(pool: &Pool) -> bool {
    pool.config().orchestrator.as_ref().is_some_and(config::Orchestrator::is_elsewhere)
}

fn arrived(reading: &ServiceReading, queued: f64) -> Traffic {
    Traffic {
        arrivals: reading.rps * reading.span.as_secs_f64(),
        busy: (reading.in_flight_now as f64 - queued).max(0.0),
        finished: reading.finished,
        failed: reading.failed,
        abandoned: reading.abandoned,
        shed: reading.shed,
        mean: reading.duration.mean().unwrap_or(0.0) / 1e6,
        durations: reading.duration.buckets().map(|(us, n)| (us / 1e6, n)).collect(),
    }
}

fn counts(entries: &[&Entry]) -> Counts {
    let mut counts = Counts::default();
    for entry in entries.iter().filter(|e| !is_leaving(e)) {
        let gate = entry.backend.as_ref().map(|b| &b.gate);
        match entry.state() {
            State::Pending | State::Starting => counts.starting += 1,
            State::Ready if gate.is_some_and(|g| !g.is_healthy()) => counts.unhealthy += 1,
            State::Ready if gate.is_some_and(|g| g.is_ejected()) => counts.ejected += 1,
            State::Ready => counts.ready += 1,
            State::Draining | State::Gone => {}
        }
    }
    counts.draining = entries.iter().filter(|e| is_leaving(e)).count() as u32;
    counts
}

/// Draining, or told to stop.
fn is_leaving(entry: &Entry) -> bool {
    entry.stopping || entry.drain.is_some()
}

fn candidate(entry: &Entry, now: Micros) -> Option<Candidate> {
    // What is being stopped cannot be brought back, and what a person drained is not ours.
    if entry.stopping || entry.drain.is_some_and(|d| d.by != crate::registry::DrainedBy::Scaling) {
        return None;
    }
    let life = match entry.state() {
        State::Pending | State::Starting => Life::Starting,
        State::Ready => Life::Ready,
        State::Draining => Life::Draining,
        State::Gone => return None,
    };
    let backend = entry.backend.as_ref();
    Some(Candidate {
        id: entry.id.clone(),
        zone: entry.zone.clone(),
        life,
        broken: backend.is_some_and(|b| !b.gate.is_healthy() || b.gate.is_ejected()),
        in_flight: backend.map_or(0, |b| b.gate.in_flight()),
        latency: backend
            .filter(|b| b.latency.is_known())
            .map_or(0.0, |b| f64::from(b.latency.read(now)) / 1e6),
        since: entry.ordered,
    })
}

fn signal(from: &From<'_>, wanted: &Wanted, entries: &[&Entry]) -> Signal {
    let ready: Vec<_> = entries.iter().filter(|e| e.is_available()).collect();
    // Traffic is shared with fixed backends, so its means are over all that take requests.
    let serving = from.pool.map_or(0, |p| p.entries().filter(|e| e.is_available()).count());
    let each = |total: f64| (serving > 0).then(|| total / serving as f64);
    let mean = |value: &dyn Fn(&Usage) -> f64| {
        let known: Vec<f64> =
            ready.iter().filter_map(|e| from.usage.of.get(&e.id)).map(value).collect();
        let sum: f64 = known.iter().sum();
        ((!known.is_empty()).then(|| sum / known.len() as f64), ready.len() - known.len())
    };
    let recent = || from.windows.service(from.service, from.span);
    let windowed = || from.windows.service(from.service, wanted.window.max(from.span));
    let external = match &wanted.metric {
        Metric::External(name) => from.signals.read(name, from.now),
        _ => None,
    };
    let (value, missing) = match &wanted.metric {
        Metric::Cpu => mean(&cpu_ratio),
        Metric::Memory => mean(&|u| u.memory_bytes as f64),
        Metric::ResponseTime => (windowed().and_then(|t| t.seconds(wanted.quantile)), 0),
        Metric::ErrorRate => (windowed().and_then(|t| t.ratio_of(t.failed)), 0),
        Metric::ClientErrorRate => (windowed().and_then(|t| t.ratio_of(t.client_errors)), 0),
        Metric::Queued => (each(from.pool.map_or(0.0, |pool| f64::from(pool.queued()))), 0),
        Metric::InFlight => (recent().and_then(|t| each(t.in_flight)), 0),
        Metric::Rps => (recent().and_then(|t| each(t.rps)), 0),
        Metric::Connections => {
            let open = from.pool.map(|p| p.stats().sum(|s| s.connections_active.get()) as f64);
            (open.and_then(each), 0)
        }
        Metric::External(_) => (external.map(|(reading, _)| reading.value), 0),
    };
    Signal {
        metric: wanted.metric.clone(),
        quantile: wanted.quantile,
        window: wanted.window,
        value,
        missing: missing as u32,
        age: match &wanted.metric {
            Metric::Cpu | Metric::Memory => {
                Duration::from_micros(from.now.saturating_sub(from.usage.at))
            }
            Metric::External(_) => external.map_or(Duration::ZERO, |(_, age)| age),
            // Read from the counters this very tick.
            _ => Duration::ZERO,
        },
        oldest: external.and_then(|(reading, _)| reading.oldest),
    }
}

/// CPU in use, of what the instance may use.
pub fn cpu_ratio(usage: &Usage) -> f64 {
    usage.cpu / usage.cpu_limit.unwrap_or_else(cores)
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}
