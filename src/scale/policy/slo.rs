//! `slo`: as many backends as keep requests from waiting for too long.
//!
//! The arithmetic is [`crate::scale::slo`]'s. This makes its signals of samples: a second of
//! arrivals, what waits, the lead time; slots and service time as configured or as learned. Until
//! both are known it answers with the arithmetic of `concurrency`, and says so. Its sentences are
//! left to `words`.

mod learn;
#[cfg(test)]
mod tests;
mod words;

use crate::config::types::{self as config, ConcurrencyPolicy};
use crate::scale::record::{Proposed, Reason};
use crate::scale::slo::{Decision, Params, Signals, Slo};

use super::concurrency::Concurrency;
use super::{Input, Panic, Policy, Wanted};

use learn::Learner;

/// What it is called in records.
pub(super) const NAME: &str = "slo";
/// What `concurrency` has where it is not configured.
const FALLBACK: ConcurrencyPolicy = ConcurrencyPolicy { target: 10.0, utilization: 0.7 };
/// The least span of a tick of the arithmetic, in seconds: a timer is a little early at times.
const LEAST_TICK: f64 = 0.9;
/// Ticks that are made up at most, after a gap.
const MOST_TICKS: u32 = 60;
/// The goal where none is configured, as a multiple of the service quantile.
const AUTO: f64 = 2.5;
/// What the service quantile is taken for while only the service time is known.
const ASSUMED: f64 = 2.0;
/// Requests may wait for at least this share of a service time.
const LEAST_WAIT: f64 = 0.25;

#[derive(Debug)]
pub struct SloPolicy {
    config: config::SloPolicy,
    arithmetic: Slo,
    learner: Learner,
    fallback: Concurrency,
    /// Seconds and arrivals since the last tick of the arithmetic.
    pending: (f64, f64),
    last: Option<(Decision, Model)>,
}

/// The service as it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Model {
    pub slots: f64,
    /// Seconds.
    pub service: f64,
    /// How long a request may wait, in seconds.
    pub wait: f64,
    /// The goal and what a request takes without waiting, both at the quantile, in seconds, if the
    /// goal cannot be reached by any number of backends.
    pub unreachable: Option<(f64, f64)>,
}

impl SloPolicy {
    pub fn new(config: config::SloPolicy, concurrency: Option<ConcurrencyPolicy>) -> Self {
        let params = Params {
            headroom: config.headroom,
            max_utilization: config.max_utilization,
            wait_probability: config.wait_probability,
            ..Params::default()
        };
        Self {
            arithmetic: Slo::new(params),
            learner: Learner::default(),
            fallback: Concurrency::new(concurrency.unwrap_or(FALLBACK)),
            pending: (0.0, 0.0),
            last: None,
            config,
        }
    }

    /// `Err`: what is not known yet.
    fn model(&self) -> Result<Model, &'static str> {
        let quiet = self.config.slots.map_or(2.0, |slots| slots / 2.0);
        let configured = self.config.service_time.map(|time| time.as_secs_f64());
        let learned = self.learner.service(quiet);
        let service = configured.or(learned).ok_or("the time of a request without waiting")?;
        // At the quantile, and not below the mean, which measured in other seconds it might be.
        let quantile = self.learner.quantile(quiet, self.config.quantile);
        let quantile = quantile.filter(|_| learned.is_some()).unwrap_or(ASSUMED * service);
        let quantile = quantile.max(service);
        let goal = self.config.latency.map_or(AUTO * quantile, |latency| latency.as_secs_f64());
        let slots = match self.config.slots {
            Some(slots) => slots,
            None => {
                self.learner.slots(quiet, goal).ok_or("how many requests a backend serves well")?
            }
        };
        let (wait, least) = (goal - quantile, LEAST_WAIT * service);
        let unreachable = (wait < least).then_some((goal, quantile));
        Ok(Model { slots, service, wait: wait.max(least), unreachable })
    }

    /// Hands whole seconds to the arithmetic.
    fn advance(&mut self, input: &Input<'_>, model: Model) -> Decision {
        let sample = input.sample;
        let (ready, fixed) = (sample.counts.ready, sample.fixed);
        let slots = f64::from(ready + fixed) * model.slots;
        let lead = sample.lead.unwrap_or(self.config.lead_time).as_secs_f64();
        let signals = |arrivals| Signals {
            arrivals,
            // Without a limit of its own a backend takes what comes: what exceeds its slots waits
            // there and not here.
            queued: sample.queued + (sample.traffic.busy - slots).max(0.0),
            ready: ready + fixed,
            spec: input.current + fixed,
            lead,
            slots: model.slots,
            service: model.service,
            wait: model.wait,
        };
        let (seconds, arrivals) = self.pending;
        if let Some((decision, _)) = self.last.as_ref().filter(|_| seconds < LEAST_TICK) {
            return *decision;
        }
        self.pending = (0.0, 0.0);
        let rate = arrivals / seconds.max(LEAST_TICK);
        let ticks = (seconds.round() as u32).clamp(1, MOST_TICKS);
        for _ in 1..ticks {
            self.arithmetic.tick(&signals(rate));
        }
        self.arithmetic.tick(&signals(rate))
    }
}

impl Policy for SloPolicy {
    fn name(&self) -> &str {
        NAME
    }

    fn wanted(&self) -> Vec<Wanted> {
        Vec::new()
    }

    fn propose(&mut self, input: &Input<'_>) -> Proposed {
        let fallback = self.fallback.propose(input);
        if !input.sample.stale {
            self.pending.0 += input.sample.span.as_secs_f64();
            self.pending.1 += input.sample.traffic.arrivals;
            self.learner.look(input.sample);
        }
        let known = match (self.model(), self.last) {
            (Ok(model), _) => Ok(model),
            // Once known it stays so, however long there was no traffic to learn from.
            (Err(_), Some((_, model))) => Ok(model),
            (Err(unknown), None) => Err(unknown),
        };
        match known {
            Err(unknown) => {
                self.pending = (0.0, 0.0);
                let note = format!("as concurrency does, until {unknown} is known");
                let note = match fallback.note {
                    Some(more) => format!("{note}; {more}"),
                    None => note,
                };
                let cause = fallback.valid.then_some(Reason::Learning);
                Proposed { policy: NAME.to_owned(), cause, note: Some(note), ..fallback }
            }
            Ok(model) => {
                let stale = self.last.filter(|_| input.sample.stale);
                let decision = match stale {
                    Some((decision, _)) => decision,
                    None => self.advance(input, model),
                };
                self.last = Some((decision, model));
                words::proposed(&self.config, &decision, &model, input)
            }
        }
    }

    /// What the rate of now needs, with its head-room.
    fn needs(&self, input: &Input<'_>) -> Option<u32> {
        match &self.last {
            Some((decision, _)) => Some(decision.base.saturating_sub(input.sample.fixed)),
            None => self.fallback.needs(input),
        }
    }

    fn panic(&self) -> Option<Panic> {
        self.fallback.panic()
    }

    fn resume(&mut self, panic: Panic) {
        self.fallback.resume(panic);
    }
}
