//! The table that is printed: a figure, its target, and whether it was met.

use std::fmt::Write;
use std::time::Duration;

/// Rows in the order they were measured.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    point: u8,
    what: String,
    figure: String,
    target: String,
    /// `None`: there is no target.
    met: Option<bool>,
}

impl Table {
    /// A time and the longest it may be.
    pub fn time(&mut self, point: u8, what: &str, time: Duration, target: Option<Duration>) {
        let met = target.map(|target| time <= target);
        let target = target.map_or("–".to_owned(), |target| format!("≤ {}", seconds(target)));
        self.row(point, what, seconds(time), target, met);
    }

    /// A count and what it has to be.
    pub fn count(&mut self, point: u8, what: &str, count: u64, target: Option<u64>) {
        let met = target.map(|target| count == target);
        let target = target.map_or("–".to_owned(), |target| target.to_string());
        self.row(point, what, count.to_string(), target, met);
    }

    /// Anything else.
    pub fn row(
        &mut self,
        point: u8,
        what: &str,
        figure: String,
        target: String,
        met: Option<bool>,
    ) {
        self.rows.push(Row { point, what: what.to_owned(), figure, target, met });
    }

    pub fn text(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let mut text = format!(
            "\n{cores} cores, {profile}, all on the loopback\n\n\
             point  {:<62} {:>10} {:>10}\n",
            "figure", "measured", "target"
        );
        for Row { point, what, figure, target, met } in &self.rows {
            let met = match met {
                Some(true) => "met",
                Some(false) => "missed",
                None => "",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{point:>5}  {what:<62} {figure:>10} {target:>10}  {met}");
        }
        text
    }
}

/// `0.31 s`, `12 ms`
fn seconds(time: Duration) -> String {
    if time < Duration::from_millis(100) {
        format!("{:.0} ms", time.as_secs_f64() * 1e3)
    } else if time < Duration::from_secs(10) {
        format!("{:.2} s", time.as_secs_f64())
    } else {
        format!("{:.0} s", time.as_secs_f64())
    }
}
