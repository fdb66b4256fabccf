//! The three standard tests of scaling, as phases of constant rates.
//!
//! What they mean for a server is judged in [`super::verdict`]; here is only when how much is sent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Rate;

/// Steps of the ramp.
const STEPS: u32 = 10;

/// Which test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standard {
    /// 1,000 requests a second for 10 minutes.
    Sustained,
    /// 100, then 10,000, then 100 requests a second, for 2, 1 and 2 minutes.
    Spike,
    /// 500 to 5,000 requests a second in ten steps of a minute.
    Ramp,
}

/// A time with one rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Phase {
    /// Seconds since the start; from `from_s`, before `to_s`.
    pub from_s: f64,
    pub to_s: f64,
    /// Requests per second.
    pub rate: f64,
}

/// Phases one after the other, the first from 0. Never empty.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Phases(Vec<Phase>);

impl Standard {
    /// As it is defined.
    pub fn phases(self) -> Phases {
        let minutes: Vec<(f64, f64)> = match self {
            Self::Sustained => vec![(10.0, 1000.0)],
            Self::Spike => vec![(2.0, 100.0), (1.0, 10_000.0), (2.0, 100.0)],
            Self::Ramp => (1..=STEPS).map(|step| (1.0, 500.0 * f64::from(step))).collect(),
        };
        let mut at = 0.0;
        let phases = minutes.into_iter().map(|(minutes, rate)| {
            let from_s = at;
            at += minutes * 60.0;
            Phase { from_s, to_s: at, rate }
        });
        Phases(phases.collect())
    }

    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sustained => "sustained",
            Self::Spike => "spike",
            Self::Ramp => "ramp",
        }
    }
}

impl Phases {
    /// All rates times a factor.
    pub fn scaled(mut self, factor: f64) -> Self {
        self.0.iter_mut().for_each(|phase| phase.rate *= factor);
        self
    }

    /// With this as the highest rate; the others keep their proportion to it.
    pub fn with_highest(self, rate: f64) -> Self {
        let factor = rate / self.highest();
        self.scaled(factor)
    }

    /// As long as this in all; each phase keeps its share.
    pub fn lasting(mut self, duration: Duration) -> Self {
        let factor = duration.as_secs_f64() / self.seconds();
        for phase in &mut self.0 {
            phase.from_s *= factor;
            phase.to_s *= factor;
        }
        self
    }

    /// Seconds in all.
    pub fn seconds(&self) -> f64 {
        self.0.last().map_or(0.0, |phase| phase.to_s)
    }

    /// Requests per second in the busiest phase.
    pub fn highest(&self) -> f64 {
        self.0.iter().map(|phase| phase.rate).fold(0.0, f64::max)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Phase> {
        self.0.iter()
    }

    /// Requests per second at a time since the start; 0 after the end.
    pub fn at(&self, seconds: f64) -> f64 {
        self.0.iter().find(|phase| seconds < phase.to_s).map_or(0.0, |phase| phase.rate)
    }

    /// The same for [`super::Plan`].
    pub fn rate(&self) -> Rate {
        match &self.0[..] {
            [only] => Rate::constant(only.rate),
            _ => {
                let phases = Arc::new(self.clone());
                Rate::varying(move |time| phases.at(time.as_secs_f64()))
            }
        }
    }
}

/// `50 → 500 requests a second in 60 s`
impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates: Vec<String> = match &self.0[..] {
            [first, .., last] if self.0.len() > 3 => vec![number(first.rate), number(last.rate)],
            phases => phases.iter().map(|phase| number(phase.rate)).collect(),
        };
        write!(f, "{} requests a second in {} s", rates.join(" → "), number(self.seconds()))?;
        if self.0.len() > 3 { write!(f, ", {} steps", self.0.len()) } else { Ok(()) }
    }
}

/// Without digits that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(phases: &Phases, times: &[f64]) -> Vec<f64> {
        times.iter().map(|time| phases.at(*time)).collect()
    }

    #[test]
    fn the_tests_are_what_they_are_defined_to_be() {
        let sustained = Standard::Sustained.phases();
        assert_eq!(rates(&sustained, &[0.0, 599.9, 600.0]), [1000.0, 1000.0, 0.0]);
        let spike = Standard::Spike.phases();
        assert_eq!(
            rates(&spike, &[0.0, 119.9, 120.0, 179.9, 180.0, 299.9, 300.0]),
            [100.0, 100.0, 10_000.0, 10_000.0, 100.0, 100.0, 0.0]
        );
        let ramp = Standard::Ramp.phases();
        assert_eq!(
            rates(&ramp, &[0.0, 59.9, 60.0, 300.0, 599.9, 600.0]),
            [500.0, 500.0, 1000.0, 3000.0, 5000.0, 0.0]
        );
    }

    #[test]
    fn rates_and_times_keep_their_proportions() {
        let ramp = Standard::Ramp.phases().scaled(0.1).lasting(Duration::from_secs(60));
        assert_eq!(rates(&ramp, &[0.0, 6.5, 59.9]), [50.0, 100.0, 500.0]);
        assert_eq!(ramp.to_string(), "50 → 500 requests a second in 60 s, 10 steps");
        let spike = Standard::Spike.phases().with_highest(50.0).lasting(Duration::from_millis(500));
        assert_eq!(rates(&spike, &[0.1, 0.25, 0.4, 0.5]), [0.5, 50.0, 0.5, 0.0]);
        assert_eq!(spike.to_string(), "0.5 → 50 → 0.5 requests a second in 0.5 s");
    }

    #[test]
    fn the_plan_of_the_load_follows_the_phases() {
        let phases = Standard::Spike.phases().with_highest(1000.0).lasting(Duration::from_secs(5));
        let due: Vec<_> = crate::load::Arrivals::new(
            phases.rate(),
            crate::load::Spacing::Uniform,
            Duration::from_secs(5),
            0,
        )
        .collect();
        let within = |from, to| due.iter().filter(|d| (from..to).contains(&d.as_secs())).count();
        assert!(within(0, 2).abs_diff(20) <= 1 && within(3, 5).abs_diff(20) <= 1);
        assert!(within(2, 3).abs_diff(1000) <= 1, "{}", within(2, 3));
    }
}
