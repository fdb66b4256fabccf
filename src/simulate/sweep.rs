//! What head-room and target of `slo` cost and bring: a grid of both, and the best of it.

use serde::Serialize;

use crate::scale::slo::Params;

use super::policy::SloPolicy;
use super::score::Summary;
use super::trial::{Entrant, Trial};

const HEADROOMS: [f64; 7] = [1.0, 1.1, 1.15, 1.2, 1.25, 1.35, 1.5];
const WAIT_PROBABILITIES: [f64; 5] = [0.0005, 0.002, 0.005, 0.01, 0.05];

/// One point of the grid.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    pub headroom: f64,
    /// Share of requests that may wait longer than the budget.
    pub wait_probability: f64,
    /// No other point has fewer violations at no more cost.
    pub best: bool,
    #[serde(flatten)]
    pub summary: Summary,
}

/// Every point, the cheapest first.
pub fn sweep(trial: &Trial, threads: usize) -> Vec<Choice> {
    let grid: Vec<(f64, f64)> = HEADROOMS
        .into_iter()
        .flat_map(|headroom| WAIT_PROBABILITIES.into_iter().map(move |eps| (headroom, eps)))
        .collect();
    let entrants: Vec<Entrant<'_>> = grid
        .iter()
        .map(|(headroom, wait_probability)| Entrant {
            name: format!("slo {headroom} {wait_probability}"),
            build: Box::new(|| {
                let params = Params {
                    headroom: *headroom,
                    wait_probability: *wait_probability,
                    ..Params::default()
                };
                Box::new(SloPolicy::new(&trial.setting, params))
            }),
        })
        .collect();
    let outcomes = trial.run(&entrants, threads);
    let mut choices: Vec<Choice> = grid
        .iter()
        .zip(outcomes)
        .map(|((headroom, wait_probability), outcome)| Choice {
            headroom: *headroom,
            wait_probability: *wait_probability,
            best: false,
            summary: outcome.summary,
        })
        .collect();
    choices.sort_by(|a, b| a.summary.cost.mean.total_cmp(&b.summary.cost.mean));
    let mut least = f64::INFINITY;
    for choice in &mut choices {
        let violations = choice.summary.violations_percent.mean;
        choice.best = violations < least;
        least = least.min(violations);
    }
    choices
}
