//! `threshold`: one backend more above one value, one fewer below another.
//!
//! It counts from the ready backends upwards, so that it waits for a backend that is starting
//! before it asks for the next.

use crate::config::types::{Metric, ThresholdPolicy};
use crate::scale::formula::{Term, rounded};
use crate::scale::history::additive;
use crate::scale::record::{Proposed, Reason};

use super::{Input, Policy, Wanted, blind, metric_name, read, wanted_for};

#[derive(Debug)]
pub struct Threshold {
    name: String,
    metric_name: String,
    params: ThresholdPolicy,
}

impl Threshold {
    pub fn new(name: &str, params: ThresholdPolicy) -> Self {
        let metric_name = metric_name(params.metric, params.quantile);
        Self { name: format!("threshold {name}"), metric_name, params }
    }
}

impl Policy for Threshold {
    fn name(&self) -> &str {
        &self.name
    }

    fn wanted(&self) -> Vec<Wanted> {
        wanted_for(self.params.metric, self.params.quantile)
    }

    fn propose(&mut self, input: &Input<'_>) -> Proposed {
        let Some(reading) = read(input, self.params.metric, self.params.quantile) else {
            return blind(&self.name, input.current, &self.metric_name);
        };
        let now = Term::count(input.current, "now");
        let one = Term::count(1, "");
        let (above, below) =
            (reading.value > self.params.up_above, reading.value < self.params.down_below);
        let wish = match (above, below) {
            (true, _) => Term::count(input.sample.counts.ready, "ready").plus(one).max(now),
            (_, true) if input.current > 0 => now.minus(one),
            _ => now,
        };
        let held = match (above, below) {
            (true, _) if self.params.metric == Metric::ErrorRate && !input.saturated => {
                Some(Reason::ErrorsWithoutSaturation)
            }
            (_, true) if reading.missing > 0 => Some(Reason::MetricMissing),
            _ => None,
        };
        let (wanted, formula) = wish.finish();
        let is = |side: &str, limit: f64| {
            Some(format!(
                "{} is {}, {side} {}",
                self.metric_name,
                rounded(reading.value),
                rounded(limit)
            ))
        };
        let note = match (above, below) {
            (true, _) => is("above", self.params.up_above),
            (_, true) => is("below", self.params.down_below),
            _ => None,
        };
        Proposed {
            policy: self.name.clone(),
            n: if held.is_some() { input.current } else { wanted },
            formula,
            wanted,
            cause: None,
            held,
            valid: true,
            note,
        }
    }

    fn needs(&self, input: &Input<'_>) -> Option<u32> {
        if !additive(self.params.metric) {
            return None;
        }
        let reading = read(input, self.params.metric, self.params.quantile)?;
        let sum = Term::count(reading.reporting, "").times(Term::number(reading.value, ""));
        Some(sum.over(Term::number(self.params.up_above, "")).ceil().finish().0)
    }
}
