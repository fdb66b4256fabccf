//! The few pieces of SVG 1.1 that a chart is made of: frames with axes, lines, areas, texts.
//!
//! What is drawn with them is in [`super::panels`]; colours and strokes are classes of the page.

use std::fmt::Write;

/// Width of the whole picture, and the place of the panels in it, in pixels.
pub(crate) const WIDTH: f64 = 960.0;
pub(crate) const LEFT: f64 = 64.0;
pub(crate) const RIGHT: f64 = 944.0;

/// How values become heights.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scale {
    /// From 0 to this.
    Linear(f64),
    /// From the first to the second, by decades.
    Log(f64, f64),
}

/// One panel: a place in the picture, with axes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) top: f64,
    pub(crate) height: f64,
    /// Seconds that the time axis is long.
    pub(crate) seconds: f64,
    pub(crate) scale: Scale,
}

impl Frame {
    /// Where a time is.
    pub(crate) fn x(&self, seconds: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (seconds / self.seconds).clamp(0.0, 1.0)
    }

    /// Where a value is; those beyond the scale are at its end.
    pub(crate) fn y(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear(max) => value / max,
            Scale::Log(min, max) => (value.max(min) / min).ln() / (max / min).ln(),
        };
        self.bottom() - self.height * share.clamp(0.0, 1.0)
    }

    pub(crate) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Lines of the grid with their labels, and the base line.
    pub(crate) fn grid(&self, out: &mut String, label: impl Fn(f64) -> String) {
        for (value, strong) in self.ticks() {
            let y = self.y(value);
            let class = if strong { "grid" } else { "grid faint" };
            line(out, class, (LEFT, y), (RIGHT, y));
            if strong {
                text(out, "tick end", LEFT - 8.0, y + 4.0, &label(value));
            }
        }
        line(out, "base", (LEFT, self.bottom()), (RIGHT, self.bottom()));
    }

    /// The time axis below the frame, with faint lines up to `top`.
    pub(crate) fn times(&self, out: &mut String, top: f64) {
        let step = step_of_time(self.seconds);
        let mut at = 0.0;
        while at <= self.seconds * 1.0001 {
            let x = self.x(at);
            line(out, "grid faint", (x, top), (x, self.bottom()));
            line(out, "base", (x, self.bottom()), (x, self.bottom() + 5.0));
            text(out, "tick middle", x, self.bottom() + 19.0, &time(at));
            at += step;
        }
    }

    /// Values with a line in the grid, and whether they have a label.
    fn ticks(&self) -> Vec<(f64, bool)> {
        match self.scale {
            Scale::Linear(max) => {
                let step = step(max, (self.height / 36.0).max(1.0));
                let count = (max / step + 1e-9).floor() as u32;
                (0..=count).map(|i| (f64::from(i) * step, true)).collect()
            }
            Scale::Log(min, max) => {
                let (from, to) = (min.log10().round() as i32, max.log10().round() as i32);
                let decades = (from..=to).map(|power| 10_f64.powi(power));
                let all =
                    decades.flat_map(|one| [(one, true), (2.0 * one, false), (5.0 * one, false)]);
                all.filter(|(value, _)| *value <= max * 1.0001).collect()
            }
        }
    }

    /// A line through points; it is broken where there is no value.
    pub(crate) fn line(&self, out: &mut String, class: &str, points: &[(f64, Option<f64>)]) {
        let mut path = String::new();
        let mut pen = 'M';
        for (at, value) in points {
            match value {
                Some(value) => {
                    point(&mut path, pen, self.x(*at), self.y(*value));
                    pen = 'L';
                }
                None => pen = 'M',
            }
        }
        self.path(out, class, &path);
    }

    /// A line of steps: each value holds until the next point, the last until `end`.
    pub(crate) fn steps(&self, out: &mut String, class: &str, points: &[(f64, f64)], end: f64) {
        let mut path = String::new();
        self.step_points(&mut path, points, end);
        self.path(out, class, &path);
    }

    /// The area below such a line.
    pub(crate) fn area(&self, out: &mut String, class: &str, points: &[(f64, f64)], end: f64) {
        let Some((first, _)) = points.first() else { return };
        let mut path = String::new();
        self.step_points(&mut path, points, end);
        point(&mut path, 'L', self.x(end), self.bottom());
        point(&mut path, 'L', self.x(*first), self.bottom());
        path.push('Z');
        self.path(out, class, &path);
    }

    fn step_points(&self, path: &mut String, points: &[(f64, f64)], end: f64) {
        let ends = points.iter().skip(1).map(|(at, _)| *at).chain([end]);
        for (i, ((from, value), to)) in points.iter().zip(ends).enumerate() {
            let y = self.y(*value);
            point(path, if i == 0 { 'M' } else { 'L' }, self.x(*from), y);
            point(path, 'L', self.x(to), y);
        }
    }

    fn path(&self, out: &mut String, class: &str, path: &str) {
        if !path.is_empty() {
            let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }
}

pub(crate) fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

pub(crate) fn text(out: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let _ =
        writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(text));
}

/// A rectangle with a text that shows when one points at it; without one if it is empty.
pub(crate) fn rect(out: &mut String, class: &str, at: (f64, f64), size: (f64, f64), tip: &str) {
    let ((x, y), (width, height)) = (at, size);
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{height:.1}\">{}</rect>",
        title(tip)
    );
}

/// A small shape around a point, as a path relative to it.
pub(crate) fn shape(out: &mut String, class: &str, at: (f64, f64), path: &str, tip: &str) {
    let (x, y) = at;
    let _ =
        writeln!(out, "<path class=\"{class}\" d=\"M{x:.1} {y:.1}{path}\">{}</path>", title(tip));
}

/// Text as it may stand in HTML and SVG, also in attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// `45 s`, `1:30`
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{} s", (s * 10.0).round() / 10.0),
        s => {
            let whole = s.round() as u64;
            match whole / 3600 {
                0 => format!("{}:{:02}", whole / 60, whole % 60),
                hours => format!("{hours}:{:02}:{:02}", whole / 60 % 60, whole % 60),
            }
        }
    }
}

/// A round number: not more than so many of it make `max`.
pub(crate) fn step(max: f64, most: f64) -> f64 {
    let least = max / most;
    let one = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|factor| factor * one).find(|step| *step >= least * 0.9999).unwrap_or(max)
}

fn step_of_time(seconds: f64) -> f64 {
    let nice = [0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
    nice.into_iter().find(|step| seconds / step <= 12.0).unwrap_or(seconds / 12.0)
}

fn point(path: &mut String, pen: char, x: f64, y: f64) {
    let _ = write!(path, "{pen}{x:.1} {y:.1}");
}

fn title(tip: &str) -> String {
    if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(scale: Scale) -> Frame {
        Frame { top: 100.0, height: 100.0, seconds: 10.0, scale }
    }

    #[test]
    fn values_are_between_the_bottom_and_the_top() {
        let linear = frame(Scale::Linear(50.0));
        assert_eq!([0.0, 25.0, 50.0, 99.0].map(|v| linear.y(v)), [200.0, 150.0, 100.0, 100.0]);
        let log = frame(Scale::Log(1.0, 100.0));
        let ys = [0.0, 1.0, 10.0, 100.0].map(|v| log.y(v).round());
        assert_eq!(ys, [200.0, 200.0, 150.0, 100.0]);
        assert_eq!([0.0, 10.0, 11.0].map(|s| log.x(s)), [LEFT, RIGHT, RIGHT]);
    }

    #[test]
    fn a_line_is_broken_where_there_is_no_value() {
        let mut out = String::new();
        let points = [(0.0, Some(0.0)), (1.0, None), (5.0, Some(50.0)), (10.0, Some(0.0))];
        frame(Scale::Linear(50.0)).line(&mut out, "p", &points);
        assert_eq!(out, "<path class=\"p\" d=\"M64.0 200.0M504.0 100.0L944.0 200.0\"/>\n");
    }

    #[test]
    fn labels_are_round() {
        assert_eq!([step(500.0, 4.0), step(8.0, 3.0), step(7.0, 7.0)], [200.0, 5.0, 1.0]);
        assert_eq!(
            [0.0, 2.5, 59.0, 90.0, 3725.0].map(time),
            ["0 s", "2.5 s", "59 s", "1:30", "1:02:05"]
        );
        assert_eq!(escape("<a href='\"&\"'>"), "&lt;a href=&#39;&quot;&amp;&quot;&#39;&gt;");
    }
}
