//! `queue`: jobs that wait, over how many one backend may have waiting; also by the oldest one's age.
//!
//! For workers that take jobs from elsewhere; no request needs to pass here. The age works like a
//! target: twice the allowed age asks for twice the backends, which is as far as it goes in one
//! step, because the age falls only after the backlog does.

use crate::config::types::QueuePolicy;
use crate::scale::formula::{Term, rounded};
use crate::scale::history::additive;
use crate::scale::record::Proposed;

use super::{Input, Policy, WINDOW, Wanted, blind, metric_name, read, wanted_for};

/// The age multiplies the number of backends by this at most.
const MOST: f64 = 2.0;

#[derive(Debug)]
pub struct Queue {
    name: String,
    metric_name: String,
    params: QueuePolicy,
}

impl Queue {
    pub fn new(name: &str, params: QueuePolicy) -> Self {
        let metric_name = metric_name(&params.metric, 0.0);
        Self { name: format!("queue {name}"), metric_name, params }
    }

    fn jobs(&self, input: &Input<'_>) -> Option<Term> {
        let reading = read(input, &self.params.metric, 0.0, WINDOW)?;
        // Of our own numbers a reading is the mean of a backend.
        let of = if additive(&self.params.metric) { f64::from(reading.reporting) } else { 1.0 };
        let jobs = of * reading.value;
        let per_backend = Term::number(self.params.per_backend, "per backend");
        Some(Term::number(jobs, "jobs").over(per_backend).ceil())
    }

    /// Backends for the oldest job, if it is too old, and what to say of it.
    fn oldest(&self, input: &Input<'_>) -> Option<(Term, String)> {
        let limit = self.params.max_age.as_secs_f64();
        let age = input.sample.signal(&self.params.metric, 0.0, WINDOW)?.oldest?;
        if limit == 0.0 || age <= limit {
            return None;
        }
        let ready = Term::count(input.sample.counts.ready.max(1), "ready");
        let factor = Term::number((age / limit).min(MOST), "");
        let note = format!("the oldest job is {} s old, above {} s", rounded(age), rounded(limit));
        Some((ready.times(factor).ceil(), note))
    }
}

impl Policy for Queue {
    fn name(&self) -> &str {
        &self.name
    }

    fn wanted(&self) -> Vec<Wanted> {
        wanted_for(&self.params.metric, 0.0, WINDOW)
    }

    fn propose(&mut self, input: &Input<'_>) -> Proposed {
        let Some(jobs) = self.jobs(input) else {
            return blind(&self.name, input.current, &self.metric_name);
        };
        let (wish, note) = match self.oldest(input) {
            Some((oldest, note)) => (jobs.max(oldest), Some(note)),
            None => (jobs, None),
        };
        let (n, formula) = wish.finish();
        Proposed {
            policy: self.name.clone(),
            n,
            formula,
            wanted: n,
            cause: None,
            held: None,
            valid: true,
            note,
        }
    }

    fn asks(&self) -> bool {
        true
    }

    fn needs(&self, input: &Input<'_>) -> Option<u32> {
        Some(self.jobs(input)?.finish().0)
    }
}
