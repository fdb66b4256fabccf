//! The exposition formats: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! They differ in three things: OpenMetrics names a counter's family without `_total`, writes whole bounds
//! with `.0`, and ends with `# EOF`.

use std::fmt::Write;

use crate::telemetry::histogram::Merged;

/// Content types, for the answer.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds of exported histograms in seconds, with their text.
const BOUNDS: [(f64, &str); 16] = [
    (0.0005, "0.0005"),
    (0.001, "0.001"),
    (0.0025, "0.0025"),
    (0.005, "0.005"),
    (0.01, "0.01"),
    (0.025, "0.025"),
    (0.05, "0.05"),
    (0.1, "0.1"),
    (0.25, "0.25"),
    (0.5, "0.5"),
    (1.0, "1.0"),
    (2.5, "2.5"),
    (5.0, "5.0"),
    (10.0, "10.0"),
    (30.0, "30.0"),
    (60.0, "60.0"),
];

/// What kind of values a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its name ends in `_total`.
    Counter,
    Gauge,
    Histogram,
}

/// Writes families one after the other.
#[derive(Debug)]
pub(super) struct Encoder {
    out: String,
    openmetrics: bool,
}

/// One family whose samples are being written. Its head appears with the first sample.
#[derive(Debug)]
pub(super) struct Family<'e> {
    encoder: &'e mut Encoder,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    begun: bool,
}

type Labels<'a> = &'a [(&'static str, &'a str)];

impl Encoder {
    pub(super) fn new(openmetrics: bool) -> Self {
        Self { out: String::with_capacity(16 * 1024), openmetrics }
    }

    pub(super) fn family(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
    ) -> Family<'_> {
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        Family { encoder: self, name, kind, help, begun: false }
    }

    pub(super) fn finish(mut self) -> String {
        if self.openmetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

impl Family<'_> {
    /// One value of a counter or gauge.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Into<f64>) {
        self.begin();
        self.line("", labels, None, value.into());
    }

    /// One histogram of durations in µs, exported in seconds.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, merged: &Merged) {
        self.begin();
        for (bound, text) in BOUNDS {
            let n = merged.count_at_most((bound * 1e6) as u64);
            self.line("_bucket", labels, Some(text), n as f64);
        }
        self.line("_bucket", labels, Some("+Inf"), merged.count() as f64);
        self.line("_sum", labels, None, merged.sum() as f64 / 1e6);
        self.line("_count", labels, None, merged.count() as f64);
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let name = match self.encoder.openmetrics {
            true => self.name.trim_end_matches("_total"),
            false => self.name,
        };
        let out = &mut self.encoder.out;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", self.help);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, le: Option<&str>, value: f64) {
        let out = &mut self.encoder.out;
        out.push_str(self.name);
        out.push_str(suffix);
        let mut separator = '{';
        for (name, text) in labels.iter().copied().chain(le.map(|le| ("le", le))) {
            out.push(separator);
            separator = ',';
            out.push_str(name);
            out.push_str("=\"");
            escape(out, text);
            out.push('"');
        }
        if separator == ',' {
            out.push('}');
        }
        out.push(' ');
        number(out, value);
        out.push('\n');
    }
}

/// Backslash, quote and line feed, as both formats ask.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

fn number(out: &mut String, value: f64) {
    if value.is_finite() {
        let _ = write!(out, "{value}");
    } else if value.is_nan() {
        out.push_str("NaN");
    } else {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
}
