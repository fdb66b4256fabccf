//! Results as tables for a terminal.

use super::score::{Mean, Summary};
use super::sweep::Choice;

const HEADINGS: [&str; 11] = [
    "policy",
    "late %",
    "dropped %",
    "wait p99",
    "cost ×",
    "hours",
    "flips",
    "θU",
    "θO",
    "τU",
    "τO",
];

/// A line a policy; columns are as wide as what stands in them.
pub fn table(summaries: &[&Summary]) -> String {
    let rows = summaries.iter().map(|s| {
        vec![
            s.policy.clone(),
            spread(s.violations_percent, 3),
            spread(s.dropped_percent, 3),
            seconds(s.wait_p99),
            spread(s.cost, 3),
            spread(s.backend_hours, 2),
            format!("{:.0}", s.flips.mean),
            format!("{:.1}", s.theta_u),
            format!("{:.1}", s.theta_o),
            format!("{:.1}", s.tau_u),
            format!("{:.1}", s.tau_o),
        ]
    });
    align([HEADINGS.map(str::to_owned).to_vec()].into_iter().chain(rows).collect())
}

/// The grid of a sweep; what nothing else beats has a star.
pub fn grid(choices: &[Choice]) -> String {
    let heading = ["", "headroom", "wait probability", "late %", "cost ×", "flips"];
    let rows = choices.iter().map(|c| {
        vec![
            if c.best { "*" } else { "" }.to_owned(),
            format!("{:.2}", c.headroom),
            format!("{:.4}", c.wait_probability),
            spread(c.summary.violations_percent, 4),
            spread(c.summary.cost, 3),
            format!("{:.0}", c.summary.flips.mean),
        ]
    });
    align([heading.map(str::to_owned).to_vec()].into_iter().chain(rows).collect())
}

/// `0.003±0.001`
fn spread(value: Mean, digits: usize) -> String {
    match value.sd > 0.0 {
        true => format!("{:.digits$}±{:.digits$}", value.mean, value.sd),
        false => format!("{:.digits$}", value.mean),
    }
}

/// `0 ms`, `26 ms`, `1.5 s`
fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{:.0} ms", value * 1000.0) } else { format!("{value:.1} s") }
}

/// The first column to the left, the others to the right.
fn align(rows: Vec<Vec<String>>) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a", "1"], ["long", "22"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(align(rows.to_vec()), "a      1\nlong  22\n");
    }

    #[test]
    fn values_are_short() {
        assert_eq!(spread(Mean { mean: 1.0, sd: 0.25 }, 2), "1.00±0.25");
        assert_eq!(spread(Mean { mean: 1.0, sd: 0.0 }, 3), "1.000");
        assert_eq!([0.0, 0.026, 1.5].map(seconds), ["0 ms", "26 ms", "1.5 s"]);
    }
}
