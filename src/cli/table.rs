//! The table that `tidegate status` prints: a line a service, below it a line a backend.
//! Columns are as wide as what stands in them, and line up over all services.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use crate::admin::view::{
    Backend, BackendState, Memory, Override, Scaling, ScalingMode, Service, Status,
};

/// What stands where there is no number.
const NONE: &str = "–";
const HEADER: [&str; 8] = ["  backend", "state", "in flight", "rps", "p50", "p99", "share", "note"];
/// Columns of numbers, set to the right.
const NUMBERS: RangeInclusive<usize> = 2..=6;

/// The whole text, ending with a line feed. `now` decides how long things last yet.
pub fn render(status: &Status, services: &[Service], now: SystemTime) -> String {
    let mut text = String::new();
    if let Some(reload) = status.last_reload.as_ref().filter(|reload| !reload.ok) {
        let why = reload.error.as_deref().unwrap_or("no reason was given");
        text.push_str(&format!("the reload at {} failed: {why}\n", reload.at));
    }
    if !status.ready {
        text.push_str("not ready\n");
    }
    text.extend(status.memory.as_ref().and_then(pressed));
    if services.is_empty() {
        text.push_str("no services\n");
    }
    let heads = align(services.iter().map(head).collect(), None);
    let rows: Vec<Vec<_>> = services.iter().map(|service| rows(service, now)).collect();
    let header = HEADER.map(String::from).to_vec();
    let widths = widths_of(rows.iter().flatten().chain([&header]));
    for ((service, head), rows) in services.iter().zip(&heads).zip(rows) {
        text.push_str(head);
        text.push('\n');
        for feed in &service.discovery {
            if let Some(error) = &feed.error {
                text.push_str(&format!("  {}: {error}\n", feed.source));
            }
        }
        if !rows.is_empty() {
            let all: Vec<_> = [header.clone()].into_iter().chain(rows).collect();
            for line in align(all, Some(&widths)) {
                text.push_str(&line);
                text.push('\n');
            }
        }
    }
    text
}

/// What is refused for want of memory.
fn pressed(memory: &Memory) -> Option<String> {
    let refused = match memory.level.as_str() {
        "shed" => "sheddable requests are refused",
        "critical" => "only critical requests are let in",
        "over" => "every request is refused, new connections wait",
        "full" => "only critical requests are let in, new connections wait",
        _ => return None,
    };
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    Some(format!("memory {} of {}: {refused}\n", mib(memory.bytes), mib(memory.limit_bytes)))
}

/// The line of a service, in cells.
fn head(service: &Service) -> Vec<String> {
    let latency = &service.latency_ms;
    let mut cells = vec![
        service.name.clone(),
        format!("{} rps", number(service.rps)),
        format!("in flight {}", service.in_flight),
        format!("p50 {}", ms(latency.p50)),
        format!("p99 {}", ms(latency.p99)),
        format!("errors {:.2} %", service.error_ratio * 100.0),
    ];
    match &service.scaling {
        None => cells.push(format!("backends {}", service.backends.len())),
        Some(scaling) => cells.extend([size(scaling), scaling_notes(scaling)]),
    }
    cells
}

fn size(scaling: &Scaling) -> String {
    let Scaling { current, desired, effective_max: max, .. } = scaling;
    match current == desired {
        true => format!("backends {current} (max {max})"),
        false => format!("backends {current} → {desired} (max {max})"),
    }
}

fn scaling_notes(scaling: &Scaling) -> String {
    let mut notes = Vec::new();
    if let Some(lead) = scaling.lead_time_ms {
        notes.push(format!("lead {}", seconds(lead)));
    }
    match scaling.mode {
        ScalingMode::On => {}
        ScalingMode::UpOnly => notes.push("up only".into()),
        ScalingMode::DryRun => notes.push("dry run".into()),
        ScalingMode::Off => notes.push("scaling off".into()),
    }
    match &scaling.overridden {
        Some(Override::Pin { replicas, .. }) => notes.push(format!("pinned at {replicas}")),
        Some(Override::Pause { .. }) => notes.push("paused".into()),
        None => notes.extend(scaling.limited_by.as_ref().map(|by| format!("limited by {by}"))),
    }
    notes.join("   ")
}

fn rows(service: &Service, now: SystemTime) -> Vec<Vec<String>> {
    let total: f64 = service.backends.iter().map(|backend| backend.rps).sum();
    let lead = service.scaling.as_ref().and_then(|scaling| scaling.lead_time_ms);
    service.backends.iter().map(|backend| row(backend, total, lead, now)).collect()
}

fn row(backend: &Backend, total: f64, lead: Option<f64>, now: SystemTime) -> Vec<String> {
    let name = format!("  {}", backend.address.as_deref().unwrap_or(&backend.id));
    let mut cells = vec![name, state(backend)];
    if matches!(backend.state, BackendState::Pending | BackendState::Starting) {
        cells.extend([NONE; 5].map(String::from));
    } else {
        let share = if total > 0.0 { backend.rps / total } else { 0.0 };
        let latency = |value: Option<f64>| value.map_or(NONE.into(), number);
        cells.extend([
            backend.in_flight.to_string(),
            number(backend.rps),
            latency(backend.latency_ms.p50),
            latency(backend.latency_ms.p99),
            format!("{:.0} %", share * 100.0),
        ]);
    }
    cells.push(note(backend, lead, now));
    cells
}

fn is_ejected(backend: &Backend) -> bool {
    backend.ejected_until.is_some()
}

fn state(backend: &Backend) -> String {
    match backend.state {
        BackendState::Pending => "pending".into(),
        BackendState::Starting => "starting".into(),
        BackendState::Draining => "draining".into(),
        BackendState::Gone => "gone".into(),
        BackendState::Ready if !backend.healthy => "unhealthy".into(),
        BackendState::Ready if is_ejected(backend) => "ejected".into(),
        BackendState::Ready => match backend.slow_start {
            Some(share) => format!("ready {:.0} %", share * 100.0),
            None => "ready".into(),
        },
    }
}

fn note(backend: &Backend, lead: Option<f64>, now: SystemTime) -> String {
    let left = backend.left_ms.map(|left| format!("{:.0} s left", (left as f64 / 1000.0).ceil()));
    let mut notes = Vec::new();
    match backend.state {
        BackendState::Pending | BackendState::Starting => {
            let age = now.duration_since(backend.since.0).unwrap_or_default();
            let age = seconds(age.as_secs_f64() * 1000.0);
            notes
                .push(lead.map_or(age.clone(), |lead| format!("{age} of about {}", seconds(lead))));
        }
        BackendState::Draining if backend.drained_by_operator => {
            notes.push("drained by an operator".into());
        }
        BackendState::Draining => notes.extend(left),
        BackendState::Ready if is_ejected(backend) => {
            let until = backend.ejected_until.and_then(|until| until.0.duration_since(now).ok());
            notes.push(match until.unwrap_or_default().as_secs_f64().ceil() {
                0.0 => "waits to be tried".into(),
                left => format!("tried again in {left:.0} s"),
            });
            notes.extend(backend.ejected_reason.clone());
        }
        BackendState::Ready if backend.slow_start.is_some() => {
            notes.push("slow start".into());
            notes.extend(left);
        }
        BackendState::Ready | BackendState::Gone => {}
    }
    if backend.backup {
        notes.push("backup".into());
    }
    let ready = backend.state == BackendState::Ready && backend.healthy;
    if let Some(error) = backend.last_error.as_ref().filter(|_| !ready) {
        notes.push(error.clone());
    }
    notes.join(", ")
}

/// Small numbers with a digit, others without.
fn number(value: f64) -> String {
    match value > 0.0 && value < 9.95 {
        true => format!("{value:.1}"),
        false => format!("{value:.0}"),
    }
}

fn ms(value: Option<f64>) -> String {
    value.map_or(NONE.into(), |value| format!("{} ms", number(value)))
}

fn seconds(ms: f64) -> String {
    match ms < 9_950.0 {
        true => format!("{:.1} s", ms / 1000.0),
        false => format!("{:.0} s", ms / 1000.0),
    }
}

fn widths_of<'a>(rows: impl Iterator<Item = &'a Vec<String>>) -> Vec<usize> {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// A table, its lines with columns of equal width; those of numbers are set to the right.
pub fn columns(rows: Vec<Vec<String>>, numbers: RangeInclusive<usize>) -> Vec<String> {
    let widths = widths_of(rows.iter());
    lines(&rows, &widths, Some(numbers))
}

/// Lines with columns of equal width. With `widths` (a table) numbers are set to the right.
fn align(rows: Vec<Vec<String>>, widths: Option<&[usize]>) -> Vec<String> {
    let own = widths_of(rows.iter());
    lines(&rows, widths.unwrap_or(&own), widths.map(|_| NUMBERS))
}

fn lines(
    rows: &[Vec<String>],
    widths: &[usize],
    numbers: Option<RangeInclusive<usize>>,
) -> Vec<String> {
    let line = |row: &Vec<String>| {
        let cells =
            row.iter().zip(widths).enumerate().map(|(column, (cell, &width))| {
                match numbers.as_ref().is_some_and(|numbers| numbers.contains(&column)) {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                }
            });
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
