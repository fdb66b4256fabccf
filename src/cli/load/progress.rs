//! The line that says how a load goes: on a terminal one that is written over each second, else
//! one every ten seconds.

use std::io::{IsTerminal, Write};

use crate::load::Second;

/// Seconds between two lines where they cannot be written over.
const EVERY: u64 = 10;

pub(super) struct Progress {
    /// Seconds that the load is to last.
    of: f64,
    terminal: bool,
    /// A line that is not ended yet.
    open: bool,
}

impl Progress {
    pub(super) fn new(of: f64) -> Self {
        Self { of, terminal: std::io::stderr().is_terminal(), open: false }
    }

    /// After each second; `more` stands at the end of the line.
    pub(super) fn show(&mut self, second: &Second, in_flight: usize, more: &str) {
        let line = line(second, self.of, in_flight, more);
        let mut out = std::io::stderr();
        // Nobody is there to be told that it cannot be written.
        if self.terminal {
            let _ = write!(out, "\r\x1b[?7l{line}\x1b[K\x1b[?7h").and_then(|()| out.flush());
            self.open = true;
        } else if (second.second + 1).is_multiple_of(EVERY) {
            let _ = writeln!(out, "{line}");
        }
    }

    /// What is written next stands on a line of its own.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            eprintln!();
        }
    }
}

/// Something to be known while a load goes on; it does not stand in the line of progress.
pub(super) fn note(text: &str) {
    let mut out = std::io::stderr();
    let over = if out.is_terminal() { "\r\x1b[K" } else { "" };
    // As above.
    let _ = writeln!(out, "{over}{text}");
}

fn line(second: &Second, of: f64, in_flight: usize, more: &str) -> String {
    let Second { second, sent, answered, p50_ms, p99_ms, errors, not_sent, .. } = second;
    let mut line = format!(
        "{:>4}/{of:.0} s  sent {sent:>5}  answered {answered:>5}  in flight {in_flight:>4}  \
         p50 {p50_ms:.1} ms  p99 {p99_ms:.1} ms  errors {errors}",
        second + 1,
    );
    if *not_sent > 0 {
        line.push_str(&format!("  not sent {not_sent}"));
    }
    line + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_numbers_of_one_second() {
        let second = Second {
            second: 11,
            sent: 250,
            answered: 249,
            p50_ms: 42.04,
            p99_ms: 88.5,
            errors: 1,
            ..Second::default()
        };
        assert_eq!(
            line(&second, 60.0, 9, "  backends 3/4"),
            "  12/60 s  sent   250  answered   249  in flight    9  p50 42.0 ms  p99 88.5 ms  \
             errors 1  backends 3/4"
        );
        assert!(line(&Second { not_sent: 7, ..second }, 60.0, 9, "").ends_with("not sent 7"));
    }
}
