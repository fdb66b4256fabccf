//! What a load has to say at its end: the report for people, and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::load::{Criterion, LATE_MS, Report, Verdict};

/// One JSON document.
pub(super) fn json(report: &impl Serialize) -> String {
    serde_json::to_string_pretty(report).map_or_else(|error| error.to_string(), |text| text + "\n")
}

/// The report for people.
pub(super) fn describe(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut text, report);
    text
}

fn write_report(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(
        out,
        "{}: {} requests in {:.1} s ({:.1}/s), {} connections",
        report.url, report.sent, report.seconds, report.rate_sent, report.connections
    )?;
    let l = &report.latency_ms;
    writeln!(
        out,
        "latency    mean {:.1}  p50 {:.1}  p90 {:.1}  p95 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} ms",
        l.mean, l.p50, l.p90, l.p95, l.p99, l.p999, l.max
    )?;
    write!(out, "answers    {}", report.completed)?;
    for (status, count) in &report.status {
        write!(out, "  {status}: {count}")?;
    }
    write!(out, "\nfailed     {}", report.failed)?;
    for (cause, count) in &report.failures {
        write!(out, "  {}: {count}", cause.name())?;
    }
    writeln!(out)?;
    if !report.not_connected.is_empty() {
        write!(out, "not connected")?;
        for (cause, count) in &report.not_connected {
            write!(out, "  {}: {count}", cause.name())?;
        }
        writeln!(out)?;
    }
    if report.backend_errors > 0 {
        writeln!(out, "5xx from backends  {}", report.backend_errors)?;
    }
    if report.resent > 0 {
        writeln!(out, "resent     {} (a kept connection was closed before them)", report.resent)?;
    }
    if report.unfinished > 0 {
        writeln!(out, "unfinished {}", report.unfinished)?;
    }
    for (backend, share) in &report.backends {
        let percent = share.share * 100.0;
        writeln!(out, "  {backend:<20} {:>8} answers  {percent:>5.1} %", share.answers)?;
    }
    if report.not_sent > 0 {
        writeln!(
            out,
            "COULD NOT KEEP THE RATE: {} of {} requests were not sent, {:.1}/s instead of {:.1}/s",
            report.not_sent, report.planned, report.rate_sent, report.rate_planned
        )?;
    }
    if report.late_ms.p99 > LATE_MS {
        writeln!(
            out,
            "THIS GENERATOR WAS LATE: p99 {:.1} ms; the latencies above contain it",
            report.late_ms.p99
        )?;
    }
    Ok(())
}

/// What a test came to, criterion by criterion.
pub(super) fn judge(verdict: &Verdict) -> String {
    let mut text = String::new();
    for criterion in &verdict.criteria {
        let Criterion { wanted, found, .. } = criterion;
        let (name, word) = (criterion.title(), criterion.word());
        text.push_str(&format!("{name:<17} {word:<10} {found}; wanted: {wanted}\n"));
    }
    text + &format!("{}: {}\n", verdict.result.word(), verdict.because)
}
