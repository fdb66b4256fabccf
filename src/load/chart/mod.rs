//! A page with the picture of a test: one file, without scripts and without anything from elsewhere.
//!
//! It can be read in black and white (lines differ by their strokes, signs by their shapes), and
//! follows the light or dark of whoever looks. Pointing at a moment shows its numbers.

mod panels;
mod series;
pub(crate) mod svg;

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use svg::escape;

use super::{Judgement, Phases, Report, Sizes, Verdict};

pub(crate) const STYLE: &str = include_str!("style.css");

/// What the page is made of.
#[derive(Debug, Clone, Copy)]
pub struct Chart<'a> {
    /// The name of the test.
    pub test: &'a str,
    /// When it was made, for people.
    pub when: &'a str,
    pub phases: &'a Phases,
    pub report: &'a Report,
    pub sizes: Option<&'a Sizes>,
    pub verdict: &'a Verdict,
}

/// The whole HTML document.
pub fn page(chart: &Chart<'_>) -> String {
    let points = series::points(chart.report, chart.phases);
    let seconds = chart.phases.seconds();
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>tidegate load {test}: {result}</title>\n<style>\n{STYLE}</style>\n\
         <h1>tidegate load {test}</h1>\n<p class=\"under\">{url} · {phases} · {when}</p>\n",
        test = escape(chart.test),
        result = chart.verdict.result.word(),
        url = escape(&chart.report.url),
        phases = escape(&chart.phases.to_string()),
        when = escape(chart.when),
    );
    verdict(&mut out, chart.verdict);
    figures(&mut out, chart.report);
    out.push_str("<figure>\n");
    out.push_str(&panels::picture(chart, &points, seconds));
    out.push_str("</figure>\n");
    if let Some(sizes) = chart.sizes {
        happened(&mut out, sizes);
    }
    out.push_str(
        "<p class=\"under\">Requests are sent when they are due, whether or not earlier ones were \
         answered. Latency is counted from the planned time of a request to the last byte of its \
         answer, by the second in which it was due; only answers below 500 have one. An error is \
         a request without a complete answer, or with a status of 400 and above.</p>\n</html>\n",
    );
    out
}

fn verdict(out: &mut String, verdict: &Verdict) {
    let class = match verdict.result {
        Judgement::Passed => "passed",
        Judgement::Failed => "failed",
        Judgement::Inconclusive => "inconclusive",
    };
    let (word, because) = (verdict.result.word(), escape(&verdict.because));
    let _ = writeln!(out, "<section class=\"verdict {class}\"><strong>{word}</strong> {because}");
    out.push_str("<table><tr><th>criterion<th>wanted<th>found<th>\n");
    for criterion in &verdict.criteria {
        let cells = [criterion.title(), criterion.wanted.clone(), criterion.found.clone()];
        let cells = cells.map(|cell| escape(&cell)).join("<td>");
        let _ = writeln!(out, "<tr><td>{cells}<td class=\"met\">{}", criterion.word());
    }
    out.push_str("</table></section>\n");
}

fn figures(out: &mut String, report: &Report) {
    let l = &report.latency_ms;
    let latency = [
        ("mean", l.mean),
        ("median", l.p50),
        ("p95", l.p95),
        ("p99", l.p99),
        ("p99.9", l.p999),
        ("max", l.max),
    ];
    let counts = [
        ("planned", report.planned),
        ("sent", report.sent),
        ("answered", report.completed),
        ("errors", report.errors),
    ];
    out.push_str("<dl>\n");
    for (name, count) in counts {
        let _ = writeln!(out, "<div><dt>{name}<dd>{}</div>", number(count as f64));
    }
    for (name, value) in latency {
        let _ = writeln!(out, "<div><dt>{name}<dd>{}</div>", milliseconds(value));
    }
    out.push_str("</dl>\n");
    counted(out, "status codes", &report.status);
    let causes = report.failures.iter().chain(&report.not_connected);
    let causes = causes.map(|(cause, count)| (cause.name(), *count)).collect();
    counted(out, "failures by cause", &causes);
}

fn counted<K: Display>(out: &mut String, title: &str, counts: &BTreeMap<K, u64>) {
    if !counts.is_empty() {
        let each = counts.iter().map(|(name, count)| format!("{name}: {}", number(*count as f64)));
        let each = escape(&each.collect::<Vec<_>>().join(" · "));
        let _ = writeln!(out, "<p class=\"under\">{title}: {each}</p>");
    }
}

fn happened(out: &mut String, sizes: &Sizes) {
    if !sizes.marks.is_empty() {
        out.push_str("<h2>What happened to the backends</h2>\n<table class=\"marks\">\n");
        for mark in &sizes.marks {
            let (at, text) = (svg::time(mark.at_s.max(0.0)), escape(&mark.text));
            let _ = writeln!(out, "<tr><td>{at}<td>{text}");
        }
        out.push_str("</table>\n");
    }
}

/// `1,234`, `2.5`: no digits that say nothing.
fn number(value: f64) -> String {
    if value < 100.0 && (value - value.round()).abs() > 0.05 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.round());
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `0.4 ms`, `42 ms`, `1.5 s`
fn milliseconds(value: f64) -> String {
    match value {
        ms if ms >= 1000.0 => format!("{} s", (ms / 100.0).round() / 10.0),
        ms if ms >= 10.0 => format!("{ms:.0} ms"),
        ms if ms >= 0.1 => format!("{} ms", (ms * 10.0).round() / 10.0),
        ms => format!("{} ms", (ms * 1000.0).round() / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::fixture::{look, report};
    use crate::load::{Mark, MarkKind, Standard};
    use std::time::Duration;

    fn sizes() -> Sizes {
        let mark = |at_s, kind, text: &str| Mark { at_s, kind, text: text.into() };
        Sizes {
            service: "<app>".into(),
            looks: (0..10).map(|i| look(f64::from(i) + 0.2, 2 + i as u32 / 5, 3)).collect(),
            marks: vec![
                mark(1.0, MarkKind::Up, "2 → 3: concurrency: ceil(\"9\" < 10) & more"),
                mark(4.0, MarkKind::Crash, "one ended by itself"),
            ],
            crashed: 1,
            ..Sizes::default()
        }
    }

    fn made(report: &Report, sizes: Option<&Sizes>) -> String {
        let phases = Standard::Ramp.phases().lasting(Duration::from_secs(10));
        let verdict = Verdict::of(report, 10.0, sizes);
        let (test, when) = ("ramp", "today");
        page(&Chart { test, when, phases: &phases, report, sizes, verdict: &verdict })
    }

    /// The path of the line with that class, outside of the legend.
    fn path<'a>(page: &'a str, class: &str) -> &'a str {
        let start = format!("<path class=\"{class}\" d=\"");
        let (_, rest) = page.split_once(&start).unwrap_or_else(|| panic!("no {class}"));
        rest.split_once('"').map_or(rest, |(path, _)| path)
    }

    #[test]
    fn every_series_is_a_line_with_a_point_a_second() {
        let sizes = sizes();
        let page = made(&report(10, 1000, 0, 20), Some(&sizes));
        for class in ["answered", "sent", "p50", "p99"] {
            assert_eq!(path(&page, class).split(['M', 'L']).count() - 1, 10, "{class}");
        }
        // Ten steps, each with two ends.
        assert_eq!(path(&page, "planned").split(['M', 'L']).count() - 1, 20);
        for class in ["ready", "total", "wanted"] {
            assert!(path(&page, class).len() > 50, "{class}");
        }
        assert!(page.contains("Errors per second: none") && !page.contains("class=\"error\""));
        let failing = made(&report(10, 500, 500, 20), None);
        assert_eq!(failing.matches("class=\"error\"").count(), 5, "the second half has errors");
        assert!(!failing.contains("Backends of"));
    }

    #[test]
    fn names_and_reasons_are_escaped_and_nothing_is_loaded() {
        let sizes = sizes();
        let page = made(&report(10, 1000, 0, 20), Some(&sizes));
        assert!(page.contains("Backends of &lt;app&gt;") && !page.contains("<app>"));
        assert!(page.contains("?a=1&amp;b=&lt;2&gt;"));
        let reason = "2 → 3: concurrency: ceil(&quot;9&quot; &lt; 10) &amp; more";
        assert_eq!(page.matches(reason).count(), 2, "as a tooltip and in the table");
        for foreign in ["<script", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn the_verdict_stands_above_the_picture() {
        let page = made(&report(10, 1000, 0, 20), Some(&sizes()));
        let (above, _) = page.split_once("<svg").expect("a picture");
        assert!(above.contains("<strong>FAILED</strong> none crashed: 1 ended by themselves"));
        assert!(above.contains("<dt>p99.9<dd>20 ms"), "{above}");
    }

    #[test]
    fn a_load_that_never_got_an_answer_has_a_page_too() {
        let page = made(&report(10, 0, 0, 0), Some(&Sizes::default()));
        assert!(page.contains("not seen") && page.ends_with("</html>\n"));
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 2.5, 99.96, 1234.0, 1e6].map(number),
            ["0", "2.5", "100", "1,234", "1,000,000"]
        );
        assert_eq!(
            [0.04, 0.41, 42.4, 1000.0, 1549.0].map(milliseconds),
            ["0.04 ms", "0.4 ms", "42 ms", "1 s", "1.5 s"]
        );
    }
}
