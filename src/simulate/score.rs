//! How a policy did: violations, waits, cost and restlessness, over one run and over many seeds.

use super::setting::Setting;
use super::waits::Waits;

/// One run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    /// Requests, of which so many were served, dropped, and waiting at the end.
    pub arrivals: f64,
    pub served: f64,
    pub dropped: f64,
    pub waiting: f64,
    /// Those that waited longer than the budget, and those dropped.
    pub late: f64,
    pub waits: Waits,
    /// Seconds of backends, from order to stop; the oracle's.
    pub backend_seconds: f64,
    pub oracle_seconds: f64,
    /// Changes of direction of the size.
    pub flips: u32,
    pub spec: Spec,
    seconds: f64,
    direction: i32,
    size: u32,
}

/// Elasticity as the SPEC Research Group measures it: how far and how long supply was below (U) and
/// above (O) demand. Supply is what is ready, demand the oracle's size. In percent.
///
/// Source: Herbst, Kounev, Reussner, "Elasticity in cloud computing" (ICAC 2013); normalized as in
/// "Ready for Rain?" (SPEC-RG-2016-01).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spec {
    pub theta_u: f64,
    pub theta_o: f64,
    pub tau_u: f64,
    pub tau_o: f64,
}

/// What one second adds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    pub arrivals: f64,
    pub served: f64,
    pub dropped: f64,
    pub late: f64,
    /// At the end of the second.
    pub queued: f64,
    pub ready: u32,
    /// Ready and starting (and, at request level, draining).
    pub paid: u32,
    pub need: u32,
}

impl Score {
    pub fn add(&mut self, point: &Point) {
        self.seconds += 1.0;
        self.arrivals += point.arrivals;
        self.served += point.served;
        self.dropped += point.dropped;
        self.late += point.late;
        self.waiting = point.queued;
        self.backend_seconds += f64::from(point.paid);
        self.oracle_seconds += f64::from(point.need);
        let (supply, demand) = (f64::from(point.ready), f64::from(point.need.max(1)));
        self.spec.theta_u += (demand - supply).max(0.0) / demand;
        self.spec.theta_o += (supply - demand).max(0.0) / demand;
        self.spec.tau_u += f64::from(u8::from(supply < demand));
        self.spec.tau_o += f64::from(u8::from(supply > demand));
    }

    /// A size was decided.
    pub fn decided(&mut self, size: u32) {
        let direction = (i64::from(size) - i64::from(self.size)).signum() as i32;
        if self.size > 0 && direction != 0 {
            self.flips += u32::from(direction == -self.direction);
            self.direction = direction;
        }
        self.size = size;
    }

    /// Turns sums into percentages.
    pub fn finish(mut self) -> Self {
        let percent = 100.0 / self.seconds.max(1.0);
        self.spec.theta_u *= percent;
        self.spec.theta_o *= percent;
        self.spec.tau_u *= percent;
        self.spec.tau_o *= percent;
        self
    }

    /// Percent of requests.
    pub fn violations(&self) -> f64 {
        100.0 * self.late / self.arrivals.max(1.0)
    }

    pub fn dropped_percent(&self) -> f64 {
        100.0 * self.dropped / self.arrivals.max(1.0)
    }

    /// Backend-hours over the oracle's.
    pub fn cost(&self) -> f64 {
        self.backend_seconds / self.oracle_seconds.max(1.0)
    }
}

/// A mean over seeds and its standard deviation (of one run).
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Mean {
    pub mean: f64,
    pub sd: f64,
}

impl Mean {
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let n = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / n;
        let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
        Self { mean, sd: if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 } }
    }
}

/// A policy over all seeds, as tables show it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Summary {
    pub policy: String,
    pub violations_percent: Mean,
    pub dropped_percent: Mean,
    /// Seconds; of the requests of all seeds together.
    pub wait_p99: f64,
    pub cost: Mean,
    pub backend_hours: Mean,
    pub flips: Mean,
    pub theta_u: f64,
    pub theta_o: f64,
    pub tau_u: f64,
    pub tau_o: f64,
}

impl Summary {
    pub fn new(policy: &str, scores: &[Score]) -> Self {
        let of = |value: fn(&Score) -> f64| Mean::of(scores.iter().map(value));
        let mut waits = Waits::default();
        scores.iter().for_each(|score| waits.add(&score.waits));
        Self {
            policy: policy.to_owned(),
            violations_percent: of(Score::violations),
            dropped_percent: of(Score::dropped_percent),
            wait_p99: waits.quantile(0.99),
            cost: of(Score::cost),
            backend_hours: of(|score| score.backend_seconds / 3600.0),
            flips: of(|score| f64::from(score.flips)),
            theta_u: of(|score| score.spec.theta_u).mean,
            theta_o: of(|score| score.spec.theta_o).mean,
            tau_u: of(|score| score.spec.tau_u).mean,
            tau_o: of(|score| score.spec.tau_o).mean,
        }
    }
}

/// The oracle's size for each second of a load.
pub fn needs(setting: &Setting, rates: &[f64]) -> Vec<u32> {
    let mut last = (f64::NAN, 0);
    let need = rates.iter().map(|rate| {
        if *rate != last.0 {
            last = (*rate, setting.need(*rate));
        }
        last.1
    });
    need.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_are_changes_of_direction() {
        let mut score = Score::default();
        [3, 4, 4, 6, 5, 5, 4, 6, 6].into_iter().for_each(|size| score.decided(size));
        assert_eq!(score.flips, 2);
    }

    /// Half the time 1 of 2, half the time 6 of 4.
    #[test]
    fn elasticity_is_relative_to_demand() {
        let mut score = Score::default();
        score.add(&Point { ready: 1, paid: 3, need: 2, ..Point::default() });
        score.add(&Point { ready: 6, paid: 6, need: 4, ..Point::default() });
        let score = score.finish();
        let Spec { theta_u, theta_o, tau_u, tau_o } = score.spec;
        assert_eq!([theta_u, theta_o, tau_u, tau_o], [25.0, 25.0, 50.0, 50.0]);
        assert_eq!(score.cost(), 1.5);
    }

    #[test]
    fn means_and_deviations() {
        let mean = Mean::of([1.0, 3.0].into_iter());
        assert_eq!((mean.mean, mean.sd), (2.0, 2_f64.sqrt()));
        assert_eq!(Mean::of([5.0].into_iter()), Mean { mean: 5.0, sd: 0.0 });
    }
}
