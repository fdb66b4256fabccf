//! What the last minute looked like: ticks in a bounded ring, and means over windows of it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::Metric;

use super::Sample;

/// Longest window anyone asks for.
const HORIZON: Duration = Duration::from_secs(60);
/// Ticks kept at most, however short the interval is.
const CAPACITY: usize = 1024;

/// The ticks of the last minute.
#[derive(Debug, Clone, Default)]
pub struct History {
    points: VecDeque<Point>,
}

#[derive(Debug, Clone)]
struct Point {
    at: Micros,
    /// Seconds it stands for.
    weight: f64,
    /// In flight and queued, the whole service.
    load: f64,
    /// (metric, sum over the backends that reported)
    sums: Vec<(Metric, f64)>,
}

impl History {
    /// Adds a tick; a stale one tells nothing and is left out.
    pub fn push(&mut self, sample: &Sample) {
        if sample.stale {
            return;
        }
        let sums =
            sample.signals.iter().filter(|signal| additive(&signal.metric)).filter_map(|signal| {
                let reporting = sample.counts.ready.saturating_sub(signal.missing);
                Some((signal.metric.clone(), signal.value? * f64::from(reporting)))
            });
        self.points.push_back(Point {
            at: sample.at,
            weight: sample.span.as_secs_f64().max(0.001),
            load: sample.in_flight + sample.queued,
            sums: sums.collect(),
        });
        let oldest = sample.at.saturating_sub(HORIZON.as_micros() as Micros);
        while self.points.len() > CAPACITY
            || self.points.front().is_some_and(|point| point.at <= oldest && oldest > 0)
        {
            self.points.pop_front();
        }
    }

    /// Mean number of requests in flight or queued over a window; `None` without any tick in it.
    pub fn load(&self, now: Micros, window: Duration) -> Option<f64> {
        mean(self.within(now, window).map(|point| (point.load, point.weight)))
    }

    /// Mean over a window of a metric's sum over all backends. The sum follows the load and not
    /// the number of backends, so it stays right while that number changes.
    pub fn sum(&self, metric: &Metric, now: Micros, window: Duration) -> Option<f64> {
        mean(self.within(now, window).filter_map(|point| {
            let (_, sum) = point.sums.iter().find(|(of, _)| of == metric)?;
            Some((*sum, point.weight))
        }))
    }

    fn within(&self, now: Micros, window: Duration) -> impl Iterator<Item = &Point> {
        let window = window.as_micros() as Micros;
        self.points.iter().rev().take_while(move |point| point.at + window > now)
    }
}

/// Whether the sum over backends is a property of the load, so that it is shared by however many there are.
pub fn additive(metric: &Metric) -> bool {
    match metric {
        Metric::Cpu | Metric::InFlight | Metric::Queued | Metric::Rps | Metric::Connections => true,
        Metric::Memory | Metric::External(_) => false,
        Metric::ResponseTime | Metric::ErrorRate | Metric::ClientErrorRate => false,
    }
}

fn mean(values: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (sum, weight) =
        values.fold((0.0, 0.0), |(sum, all), (value, weight)| (sum + value * weight, all + weight));
    (weight > 0.0).then(|| sum / weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, in_flight: f64) -> Sample {
        Sample { at: at * 1_000_000, span: Duration::from_secs(1), in_flight, ..Sample::default() }
    }

    #[test]
    fn means_are_over_the_window_and_no_more() {
        let mut history = History::default();
        for second in 1..=100 {
            history.push(&sample(second, second as f64));
        }
        let now = 100_000_000;
        assert_eq!(history.load(now, Duration::from_secs(6)), Some(97.5));
        assert_eq!(history.load(now, Duration::from_secs(60)), Some(70.5));
        assert_eq!(history.points.len(), 60);
    }

    #[test]
    fn a_stale_tick_is_not_history() {
        let mut history = History::default();
        history.push(&Sample { stale: true, ..sample(1, 5.0) });
        assert_eq!(history.load(1_000_000, Duration::from_secs(60)), None);
    }
}
