//! `threshold`: more backends above one value, fewer below another, moved by an algorithm.
//!
//! `linear` moves by one. `exponential` adds half of the ready ones, as many again far above the
//! threshold, and takes away a third. `predictive` moves by one, but up as soon as the value's
//! trend crosses the threshold within the lead time. All count from the ready backends upwards, so
//! that they wait for a backend that is starting before they ask for the next.

mod forecast;

use crate::config::types::{Algorithm, ThresholdPolicy};
use crate::scale::formula::{Term, rounded};
use crate::scale::history::additive;
use crate::scale::record::{Proposed, Reason};

use super::{Input, Policy, Reading, Wanted, blind, metric_name, read, wanted_for};
use forecast::Forecast;

/// From this multiple of the threshold on the number is doubled.
const FAR_ABOVE: f64 = 1.5;

#[derive(Debug)]
pub struct Threshold {
    name: String,
    metric_name: String,
    params: ThresholdPolicy,
    forecast: Forecast,
}

/// Where the value is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Above,
    /// It will be above: its value then, and in how many seconds.
    Rising(f64, f64),
    Below,
    Between,
}

impl Threshold {
    pub fn new(name: &str, params: ThresholdPolicy) -> Self {
        let metric_name = metric_name(&params.metric, params.quantile);
        let name = format!("threshold {name}");
        Self { name, metric_name, params, forecast: Forecast::default() }
    }

    fn side(&mut self, input: &Input<'_>, value: f64) -> Side {
        if value > self.params.up_above {
            return Side::Above;
        }
        if self.params.algorithm == Algorithm::Predictive {
            let lead = input.sample.lead.unwrap_or(forecast::LEAD).as_secs_f64();
            if let Some(then) = self.forecast.in_seconds(lead)
                && then > self.params.up_above
            {
                return Side::Rising(then, lead);
            }
        }
        if value < self.params.down_below { Side::Below } else { Side::Between }
    }

    fn wish(&self, side: Side, input: &Input<'_>, value: f64) -> Term {
        let now = || Term::count(input.current, "now");
        let ready = input.sample.counts.ready;
        match (side, self.params.algorithm) {
            (Side::Above | Side::Rising(..), Algorithm::Exponential) => {
                let far = value >= FAR_ABOVE * self.params.up_above;
                let factor = Term::number(if far { 2.0 } else { 1.5 }, "");
                Term::count(ready.max(1), "ready").times(factor).ceil().max(now())
            }
            (Side::Above | Side::Rising(..), _) => {
                Term::count(ready, "ready").plus(Term::count(1, "")).max(now())
            }
            (Side::Below, Algorithm::Exponential) => {
                now().minus(now().over(Term::count(3, "")).ceil())
            }
            (Side::Below, _) if input.current > 0 => now().minus(Term::count(1, "")),
            (Side::Below | Side::Between, _) => now(),
        }
    }

    fn held(&self, side: Side, input: &Input<'_>, reading: &Reading) -> Option<Reason> {
        match side {
            Side::Above | Side::Rising(..)
                if self.params.metric.is_of_errors() && !input.saturated =>
            {
                Some(Reason::ErrorsWithoutSaturation)
            }
            Side::Below if reading.missing > 0 => Some(Reason::MetricMissing),
            _ => None,
        }
    }

    fn note(&self, side: Side, value: f64) -> Option<String> {
        let name = &self.metric_name;
        let (value, up) = (rounded(value), rounded(self.params.up_above));
        match side {
            Side::Above => Some(format!("{name} is {value}, above {up}")),
            Side::Rising(then, lead) => {
                let (then, lead) = (rounded(then), rounded(lead));
                Some(format!("{name} is {value} and will be {then} in {lead} s, above {up}"))
            }
            Side::Below => {
                Some(format!("{name} is {value}, below {}", rounded(self.params.down_below)))
            }
            Side::Between => None,
        }
    }
}

impl Policy for Threshold {
    fn name(&self) -> &str {
        &self.name
    }

    fn wanted(&self) -> Vec<Wanted> {
        wanted_for(&self.params.metric, self.params.quantile, self.params.window)
    }

    fn propose(&mut self, input: &Input<'_>) -> Proposed {
        let Some(reading) =
            read(input, &self.params.metric, self.params.quantile, self.params.window)
        else {
            return blind(&self.name, input.current, &self.metric_name);
        };
        self.forecast.push(input.now, reading.value);
        let side = self.side(input, reading.value);
        let held = self.held(side, input, &reading);
        let (wanted, formula) = self.wish(side, input, reading.value).finish();
        Proposed {
            policy: self.name.clone(),
            n: if held.is_some() { input.current } else { wanted },
            formula,
            wanted,
            cause: None,
            held,
            valid: true,
            note: self.note(side, reading.value),
        }
    }

    fn needs(&self, input: &Input<'_>) -> Option<u32> {
        if !additive(&self.params.metric) {
            return None;
        }
        let reading = read(input, &self.params.metric, self.params.quantile, self.params.window)?;
        let sum = Term::count(reading.reporting, "").times(Term::number(reading.value, ""));
        Some(sum.over(Term::number(self.params.up_above, "")).ceil().finish().0)
    }
}
