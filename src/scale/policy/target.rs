//! `target`: keeps a metric at a value, with the arithmetic of the Kubernetes HPA v2.
//!
//! Source: "Algorithm details" of the HPA's documentation. Backends that do not report count
//! with the whole target when the wish is downwards and with nothing when it is upwards, where
//! those that are starting count with nothing too; if that turns the direction or brings the ratio
//! within the tolerance, nothing changes. From no backend at all a number from elsewhere is divided
//! by its target, as there is nobody to multiply by.
//!
//! Two things are not the HPA's. Exactly a tenth is within the tolerance, which binary fractions
//! decide there. And where the HPA's code takes a silent pod's CPU for all that it requested, we
//! take the target, as its documentation says.

use crate::config::types::{Metric, TargetPolicy};
use crate::scale::formula::Term;
use crate::scale::history::additive;
use crate::scale::record::{Proposed, Reason};

use super::{Input, Policy, Reading, Wanted, blind, metric_name, read, wanted_for, words};

#[derive(Debug)]
pub struct Target {
    name: String,
    metric_name: String,
    params: TargetPolicy,
}

impl Target {
    pub fn new(name: &str, params: TargetPolicy) -> Self {
        let metric_name = metric_name(&params.metric, params.quantile);
        Self { name: format!("target {name}"), metric_name, params }
    }

    /// The wish, its formula, and the ratio to the target with all backends counted in that count.
    fn wish(&self, reading: &Reading, input: &Input<'_>) -> (Term, f64) {
        let target = || Term::number(self.params.value, "");
        let value = Term::number(reading.value, &words(&self.metric_name));
        let ratio = value.value() / target().value();
        if input.current == 0 && reading.reporting == 0 {
            return (value.over(target()).ceil(), ratio);
        }
        let reporting = Term::count(reading.reporting, "ready");
        let starting = if ratio > 1.0 { input.sample.counts.starting } else { 0 };
        let all = f64::from(reading.reporting + reading.missing + starting);
        let mut sum = reporting.times(value);
        if reading.missing > 0 {
            let assumed = if ratio > 1.0 { Term::number(0.0, "") } else { target() };
            sum = sum.plus(Term::count(reading.missing, "silent").times(assumed));
        }
        let ratio = match reading.missing + starting {
            0 => ratio,
            _ => sum.value() / all / target().value(),
        };
        (sum.over(target()).ceil(), ratio)
    }

    fn held(&self, input: &Input<'_>, reading: &Reading, n: u32, ratio: f64) -> Option<Reason> {
        if input.current == 0 && reading.reporting == 0 {
            return None;
        }
        let plain = reading.value / self.params.value;
        let turned = (plain > 1.0 && (ratio < 1.0 || n < input.current))
            || (plain < 1.0 && (ratio > 1.0 || n > input.current));
        if (ratio - 1.0).abs() <= self.params.tolerance + 1e-9 {
            Some(Reason::Tolerance)
        } else if turned {
            Some(Reason::DirectionTurned)
        } else if self.params.metric.is_of_errors() && ratio > 1.0 && !input.saturated {
            Some(Reason::ErrorsWithoutSaturation)
        } else {
            None
        }
    }
}

impl Policy for Target {
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
        let (wish, ratio) = self.wish(&reading, input);
        let (wanted, formula) = wish.finish();
        let held = self.held(input, &reading, wanted, ratio);
        Proposed {
            policy: self.name.clone(),
            n: if held.is_some() { input.current } else { wanted },
            formula,
            wanted,
            cause: None,
            held,
            valid: true,
            note: None,
        }
    }

    fn asks(&self) -> bool {
        matches!(self.params.metric, Metric::External(_))
    }

    fn needs(&self, input: &Input<'_>) -> Option<u32> {
        if !additive(&self.params.metric) {
            return None;
        }
        let reading = read(input, &self.params.metric, self.params.quantile, self.params.window)?;
        let most = Term::number(self.params.value * (1.0 + self.params.tolerance), "");
        let sum = Term::count(reading.reporting, "").times(Term::number(reading.value, ""));
        Some(sum.over(most).ceil().finish().0)
    }
}
