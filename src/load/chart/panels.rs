//! What the picture shows, panel below panel on one time axis: rates, latencies, errors and,
//! where they were watched, backends.

use super::series::Point;
use super::svg::{Frame, LEFT, RIGHT, Scale, WIDTH, escape, line, rect, shape, step, text, time};
use super::{Chart, milliseconds, number};
use crate::load::verdict::P99_MS;
use crate::load::{Mark, MarkKind, Sizes};

/// Between two panels: the title of the lower one.
const GAP: f64 = 44.0;
/// More marks than this have no line through the picture, only their sign.
const MOST_LINES: usize = 24;

/// The whole picture.
pub(super) fn picture(chart: &Chart<'_>, points: &[Point], seconds: f64) -> String {
    let mut out = String::new();
    let mut top = 26.0;
    let mut place = |height: f64, scale| {
        let frame = Frame { top, height, seconds, scale };
        top += height + GAP;
        frame
    };
    let rates = place(170.0, Scale::Linear(most_requests(points)));
    let latencies = place(170.0, latency_scale(points));
    let most_errors = points.iter().map(|point| point.errors).fold(0.0, f64::max);
    let height = if most_errors > 0.0 { 34.0 } else { 4.0 };
    let errors = place(height, Scale::Linear(most_errors.max(1.0)));
    let backends = chart.sizes.map(|sizes| (place(120.0, backend_scale(sizes)), sizes));
    let last = backends.map_or(errors, |(frame, _)| frame);

    if let Some((_, sizes)) = backends {
        lines(&mut out, sizes, &rates, &last);
    }
    rate_panel(&mut out, &rates, points, chart);
    latency_panel(&mut out, &latencies, points);
    error_panel(&mut out, &errors, points);
    if let Some((frame, sizes)) = backends {
        backend_panel(&mut out, &frame, sizes);
    }
    last.times(&mut out, rates.top);
    for point in points {
        let (from, to) = (rates.x(point.from), rates.x(point.to));
        let size = (to - from, last.bottom() - rates.top);
        rect(&mut out, "tip", (from, rates.top), size, &tip(point, chart.sizes));
    }
    if let Some((frame, sizes)) = backends {
        marks(&mut out, &frame, sizes);
    }
    let height = last.bottom() + 30.0;
    let name = escape(&format!("{} over time", chart.test));
    format!(
        "<svg viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" aria-label=\"{name}\">\n{out}</svg>\n"
    )
}

fn most_requests(points: &[Point]) -> f64 {
    let all = points.iter().flat_map(|point| [point.planned, point.sent, point.answered]);
    let most = all.fold(1.0, f64::max);
    let step = step(most, 4.0);
    (most / step).ceil() * step
}

/// Whole decades around the values and the criterion.
fn latency_scale(points: &[Point]) -> Scale {
    let values = || points.iter().flat_map(|point| [point.p50, point.p99]).flatten();
    let least = values().fold(P99_MS, f64::min);
    let most = values().fold(P99_MS, f64::max);
    Scale::Log(10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil()))
}

fn backend_scale(sizes: &Sizes) -> Scale {
    let most = sizes.looks.iter().map(|look| look.total.max(look.desired)).max().unwrap_or(0);
    // Room for the signs above the lines.
    Scale::Linear(f64::from(most.max(1)) * 1.25)
}

fn rate_panel(out: &mut String, frame: &Frame, points: &[Point], chart: &Chart<'_>) {
    let legend = [("answered", "answered"), ("sent", "sent"), ("planned", "planned")];
    head(out, frame, "Requests per second", &legend);
    frame.grid(out, number);
    let value = |of: fn(&Point) -> f64| -> Vec<_> {
        points.iter().map(|point| (point.middle(), Some(of(point)))).collect()
    };
    frame.line(out, "sent", &value(|point| point.sent));
    let planned: Vec<_> = chart.phases.iter().map(|phase| (phase.from_s, phase.rate)).collect();
    frame.steps(out, "planned", &planned, frame.seconds);
    frame.line(out, "answered", &value(|point| point.answered));
}

fn latency_panel(out: &mut String, frame: &Frame, points: &[Point]) {
    head(out, frame, "Latency from the planned time", &[("p99", "p99"), ("p50", "p50")]);
    frame.grid(out, milliseconds);
    let y = frame.y(P99_MS);
    line(out, "bound", (LEFT, y), (RIGHT, y));
    text(out, "tick over", LEFT + 6.0, y - 5.0, &format!("p99 has to stay below {P99_MS:.0} ms"));
    let value = |of: fn(&Point) -> Option<f64>| -> Vec<_> {
        points.iter().map(|point| (point.middle(), of(point))).collect()
    };
    frame.line(out, "p50", &value(|point| point.p50));
    frame.line(out, "p99", &value(|point| point.p99));
}

fn error_panel(out: &mut String, frame: &Frame, points: &[Point]) {
    let any = points.iter().any(|point| point.errors > 0.0);
    head(out, frame, if any { "Errors per second" } else { "Errors per second: none" }, &[]);
    if any {
        frame.grid(out, number);
        for point in points.iter().filter(|point| point.errors > 0.0) {
            let (from, to) = (frame.x(point.from), frame.x(point.to));
            // Also a single one can be seen.
            let height = (frame.bottom() - frame.y(point.errors)).max(2.0);
            let size = ((to - from).max(1.5), height);
            rect(out, "error", (from, frame.bottom() - height), size, "");
        }
    } else {
        line(out, "base", (LEFT, frame.bottom()), (RIGHT, frame.bottom()));
    }
}

fn backend_panel(out: &mut String, frame: &Frame, sizes: &Sizes) {
    let title = format!("Backends of {}", sizes.service);
    head(out, frame, &title, &[("ready", "ready"), ("total", "all"), ("wanted", "wanted")]);
    let gaps = sizes.gaps(frame.seconds);
    for (from, to) in &gaps {
        let (x, width) = (frame.x(*from), frame.x(*to) - frame.x(*from));
        rect(out, "gap", (x, frame.top), (width, frame.height), "");
        text(out, "tick middle", x + width / 2.0, frame.top + frame.height / 2.0, "not seen");
    }
    frame.grid(out, number);
    for stretch in stretches(sizes, frame.seconds) {
        let end = stretch.end;
        let value = |of: fn(&crate::load::Look) -> u32| -> Vec<_> {
            stretch.looks.iter().map(|look| (look.at_s, f64::from(of(look)))).collect()
        };
        frame.area(out, "ready", &value(|look| look.ready), end);
        frame.steps(out, "total", &value(|look| look.total), end);
        frame.steps(out, "wanted", &value(|look| look.desired), end);
    }
}

/// Looks without a gap between them.
struct Stretch<'a> {
    looks: &'a [crate::load::Look],
    end: f64,
}

fn stretches(sizes: &Sizes, seconds: f64) -> Vec<Stretch<'_>> {
    let gap = crate::load::sizes::GAP_S;
    let looks = &sizes.looks[..sizes.looks.partition_point(|look| look.at_s < seconds)];
    let chunks = looks.chunk_by(|a, b| b.at_s - a.at_s <= gap);
    let end = |chunk: &[crate::load::Look]| chunk.last().map_or(0.0, |look| look.at_s);
    chunks
        .map(|looks| {
            let end = end(looks);
            let to_the_end = seconds - end <= gap;
            Stretch { looks, end: if to_the_end { seconds } else { end } }
        })
        .collect()
}

/// Lines through all panels where something happened.
fn lines(out: &mut String, sizes: &Sizes, first: &Frame, last: &Frame) {
    let few = sizes.marks.len() <= MOST_LINES;
    let has_line = |mark: &&Mark| match mark.kind {
        MarkKind::Crash => true,
        MarkKind::Held => false,
        _ => few,
    };
    for mark in within(sizes, first.seconds).filter(has_line) {
        let x = first.x(mark.at_s);
        line(out, "event", (x, first.top), (x, last.bottom()));
    }
}

/// The signs of what happened, at the top of the last panel.
fn marks(out: &mut String, frame: &Frame, sizes: &Sizes) {
    for mark in within(sizes, frame.seconds) {
        let (class, path) = match mark.kind {
            MarkKind::Up => ("sign", "m0 -6l5 9h-10z"),
            MarkKind::Down => ("sign down", "m0 6l5 -9h-10z"),
            MarkKind::Crash | MarkKind::Unhealthy => ("sign bad", "m-5 -5l10 10m0 -10l-10 10"),
            MarkKind::Held => ("sign held", "m-5 0h10"),
            MarkKind::Replaced => ("sign", "m-4 -4h8v8h-8z"),
        };
        let at = (frame.x(mark.at_s), frame.top + 8.0);
        shape(out, class, at, path, &format!("{}: {}", time(mark.at_s), mark.text));
    }
}

fn within(sizes: &Sizes, seconds: f64) -> impl Iterator<Item = &Mark> {
    sizes.marks.iter().filter(move |mark| (0.0..=seconds).contains(&mark.at_s))
}

/// The title of a panel and, at its right, what its lines are.
fn head(out: &mut String, frame: &Frame, title: &str, legend: &[(&str, &str)]) {
    let y = frame.top - 11.0;
    text(out, "title", LEFT, y, title);
    let mut x = RIGHT;
    for (class, name) in legend {
        text(out, "tick end", x, y, name);
        x -= 7.0 * name.chars().count() as f64 + 8.0;
        if *class == "ready" {
            rect(out, class, (x - 26.0, y - 9.0), (26.0, 9.0), "");
        } else {
            line(out, class, (x - 26.0, y - 4.0), (x, y - 4.0));
        }
        x -= 26.0 + 18.0;
    }
}

/// All numbers of one moment.
fn tip(point: &Point, sizes: Option<&Sizes>) -> String {
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), milliseconds);
    let mut tip = format!(
        "{}\nplanned {}/s, sent {}/s, answered {}/s\np50 {}, p99 {}\nerrors {}/s",
        time(point.from),
        number(point.planned),
        number(point.sent),
        number(point.answered),
        ms(point.p50),
        ms(point.p99),
        number(point.errors),
    );
    let look = sizes.and_then(|s| s.looks.iter().rev().find(|look| look.at_s <= point.to));
    if let Some(look) = look {
        let (ready, total, desired) = (look.ready, look.total, look.desired);
        tip.push_str(&format!("\nbackends {ready} ready, {total} in all, {desired} wanted"));
    }
    tip
}
