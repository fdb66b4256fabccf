//! The timeline of a report as points of a chart: not more of them than there are pixels.

use crate::load::{Phases, Report, Second};

/// Most points of a line.
const MOST: usize = 880;

/// One point: a second, or several of a long load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Seconds since the start.
    pub(super) from: f64,
    pub(super) to: f64,
    /// Per second.
    pub(super) planned: f64,
    pub(super) sent: f64,
    pub(super) answered: f64,
    pub(super) errors: f64,
    /// Milliseconds, of the worst second in it; `None` without a good answer.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Point {
    pub(super) fn middle(&self) -> f64 {
        f64::midpoint(self.from, self.to)
    }
}

/// Those of the time in which requests were due.
pub(super) fn points(report: &Report, phases: &Phases) -> Vec<Point> {
    let within = |second: &&Second| (second.second as f64) < report.seconds;
    let seconds: Vec<&Second> = report.timeline.iter().take_while(within).collect();
    let width = seconds.len().div_ceil(MOST).max(1);
    seconds.chunks(width).map(|chunk| point(chunk, report.seconds, phases)).collect()
}

fn point(chunk: &[&Second], end: f64, phases: &Phases) -> Point {
    let from = chunk.first().map_or(0.0, |second| second.second as f64);
    let to = (from + chunk.len() as f64).min(end);
    let length = (to - from).max(1e-3);
    let rate = |count: fn(&Second) -> u64| {
        chunk.iter().map(|second| count(second)).sum::<u64>() as f64 / length
    };
    let worst = |value: fn(&Second) -> f64| {
        chunk.iter().map(|second| value(second)).filter(|ms| *ms > 0.0).reduce(f64::max)
    };
    Point {
        from,
        to,
        planned: phases.at(f64::midpoint(from, to)),
        sent: rate(|second| second.sent),
        answered: rate(|second| second.answered),
        errors: rate(|second| second.errors),
        p50: worst(|second| second.p50_ms),
        p99: worst(|second| second.p99_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Standard;
    use crate::load::fixture::report;
    use std::time::Duration;

    #[test]
    fn counts_are_rates_also_in_a_part_of_a_second() {
        let mut short = report(2, 100, 0, 20);
        short.seconds = 1.5;
        let phases = Standard::Sustained.phases();
        let points = points(&short, &phases);
        assert_eq!(points.len(), 2);
        assert_eq!((points[0].sent, points[1].sent), (50.0, 100.0));
        assert_eq!((points[1].from, points[1].to, points[1].planned), (1.0, 1.5, 1000.0));
        assert!(points[0].p99.is_some_and(|ms| (19.9..20.2).contains(&ms)));
    }

    #[test]
    fn a_long_load_has_no_more_points_than_pixels() {
        let long = report(2000, 4000, 0, 20);
        let phases = Standard::Ramp.phases().lasting(Duration::from_secs(2000));
        let points = points(&long, &phases);
        assert!(points.len() <= MOST, "{}", points.len());
        assert_eq!((points[0].to, points[0].sent), (3.0, 2.0));
        assert_eq!(points.last().map(|point| point.to), Some(2000.0));
    }
}
