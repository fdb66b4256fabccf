//! A page with the runs of a trial: one HTML file, without scripts and without anything from elsewhere.
//!
//! Below the table there is a panel for each policy: the load, what the ready backends could
//! serve, and when requests waited too long. All panels have the same axes, so that they can be
//! compared by looking.

use std::fmt::Write;

use crate::load::chart::STYLE;
use crate::load::chart::svg::{
    Frame, LEFT, RIGHT, Scale, WIDTH, escape, line, rect, step, text, time,
};

use super::curve::Column;
use super::score::{Mean, Summary};
use super::trial::{Outcome, Trial};

const MORE_STYLE: &str = "svg .load { stroke: var(--ink); stroke-width: 1.4; }
svg .capacity { stroke: var(--one); stroke-width: 1.8; }
td, th { font-variant-numeric: tabular-nums; }
";
/// Of a panel, and of the bars of violations below it.
const HEIGHT: f64 = 130.0;
const BARS: f64 = 22.0;
const GAP: f64 = 40.0;

/// The whole HTML document.
pub fn page(trial: &Trial, outcomes: &[Outcome], when: &str) -> String {
    let name = escape(&trial.load.name);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>tidegate simulate: {name}</title>\n<style>\n{STYLE}{MORE_STYLE}</style>\n\
         <h1>tidegate simulate</h1>\n<p class=\"under\">{name} · {setting} · {when}</p>\n",
        setting = escape(&setting(trial)),
        when = escape(when),
    );
    table(&mut out, outcomes.iter().map(|outcome| &outcome.summary));
    out.push_str("<figure>\n");
    out.push_str(&picture(outcomes, trial.load.rates.len() as f64));
    out.push_str(
        "</figure>\n<p class=\"under\">Black: requests per second. Blue: requests per second that the \
         ready backends can serve (the least of the moment). Red: when requests waited longer than the \
         budget or were dropped, by their share. The pictures are of the first seed, the table is of all. Cost is \
         backend-hours over those of an oracle that knows the load and starts backends at once.</p>\n</html>\n",
    );
    out
}

fn setting(trial: &Trial) -> String {
    let of = &trial.setting;
    format!(
        "{} slots of {:.0} ms, {:.0} ms of waiting allowed, lead time {:.0} s, {} to {} backends, {} seeds",
        of.slots,
        of.service * 1000.0,
        of.wait * 1000.0,
        of.lead,
        of.min,
        of.max,
        trial.seeds
    )
}

fn table<'a>(out: &mut String, summaries: impl Iterator<Item = &'a Summary>) {
    out.push_str(
        "<table><tr><th>policy<th>violations %<th>dropped %<th>wait p99 s<th>cost × oracle\
         <th>backend-hours<th>flips<th>θU<th>θO<th>τU<th>τO\n",
    );
    let mean = |value: Mean| format!("{:.3} ± {:.3}", value.mean, value.sd);
    for s in summaries {
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{:.3}<td>{}<td>{:.2}<td>{:.0}<td>{:.1}<td>{:.1}<td>{:.1}<td>{:.1}",
            escape(&s.policy),
            mean(s.violations_percent),
            mean(s.dropped_percent),
            s.wait_p99,
            mean(s.cost),
            s.backend_hours.mean,
            s.flips.mean,
            s.theta_u,
            s.theta_o,
            s.tau_u,
            s.tau_o
        );
    }
    out.push_str("</table>\n");
}

fn picture(outcomes: &[Outcome], seconds: f64) -> String {
    let columns = || outcomes.iter().flat_map(|outcome| &outcome.curve.columns);
    let load = columns().map(|column| column.load).fold(1.0, f64::max);
    let capacity = columns().map(|column| column.capacity).fold(load, f64::max);
    // A static size far above the load must not flatten all others.
    let most = capacity.min(2.5 * load);
    let nice = step(most, 4.0);
    let scale = Scale::Linear((most / nice).ceil() * nice);
    let mut out = String::new();
    let mut top = 26.0;
    let mut last = None;
    for outcome in outcomes {
        let frame = Frame { top, height: HEIGHT, seconds, scale };
        panel(&mut out, &frame, outcome);
        top += HEIGHT + BARS + GAP;
        last = Some(frame);
    }
    if let Some(frame) = last {
        let below = Frame { top: frame.top, height: HEIGHT + BARS, seconds, scale };
        below.times(&mut out, 26.0);
    }
    let height = top + 10.0;
    format!(
        "<svg viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" \
         aria-label=\"load and capacity over time\">\n{out}</svg>\n"
    )
}

fn panel(out: &mut String, frame: &Frame, outcome: &Outcome) {
    let Summary { policy, violations_percent, cost, .. } = &outcome.summary;
    let title =
        format!("{policy}: {:.3} % late at {:.2} × the oracle", violations_percent.mean, cost.mean);
    text(out, "title", LEFT, frame.top - 10.0, &title);
    frame.grid(out, |value| format!("{value:.0}"));
    let columns = &outcome.curve.columns;
    let capacity: Vec<(f64, f64)> = columns.iter().map(|c| (c.from, c.capacity)).collect();
    frame.steps(out, "capacity", &capacity, frame.seconds);
    let load: Vec<(f64, Option<f64>)> =
        columns.iter().map(|c| ((c.from + c.to) / 2.0, Some(c.load))).collect();
    frame.line(out, "load", &load);
    let base = frame.bottom() + BARS;
    line(out, "base", (LEFT, base), (RIGHT, base));
    for column in columns {
        let (from, to) = (frame.x(column.from), frame.x(column.to));
        let share = share(column);
        if share > 0.0 {
            // Also a small share can be seen.
            let height = ((BARS - 4.0) * share).max(1.5);
            rect(out, "error", (from, base - height), ((to - from).max(1.0), height), "");
        }
        let size = (to - from, base - frame.top);
        rect(out, "tip", (from, frame.top), size, &tip(column, share));
    }
}

/// Late requests of the column's; one in ten thousand and fewer are not drawn.
fn share(column: &Column) -> f64 {
    let requests = column.load * (column.to - column.from);
    let share = if requests > 0.0 { (column.late / requests).min(1.0) } else { 0.0 };
    if share < 1e-4 { 0.0 } else { share }
}

fn tip(column: &Column, share: f64) -> String {
    format!(
        "{}: {:.0} requests/s, capacity {:.0}/s, {} backends ordered, {:.2} % late",
        time(column.from),
        column.load,
        column.capacity,
        column.size,
        share * 100.0
    )
}
