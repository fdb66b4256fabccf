//! `slo`: as many backends as keep requests from waiting for too long.
//!
//! The arithmetic is [`crate::scale::slo`]'s. This makes its signals of samples: a second of
//! arrivals, what waits, the lead time; slots and service time as configured or as learned. While
//! they are not known for sure it goes by what was seen to be served well, with care: it orders at
//! most as many again as are ready. Its sentences are left to `words`.
//!
//! - `learn`: the service time, from the quietest seconds.
//! - `pace`: the slots, from what a backend gets done.
//! - `downstream`: whether more backends bring anything.
//! - `model`: what is configured and what is learned, together.

mod downstream;
mod learn;
mod model;
mod pace;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use crate::config::types::{self as config, ConcurrencyPolicy};
use crate::scale::Learned;
use crate::scale::formula::Term;
use crate::scale::record::{Proposed, Reason};
use crate::scale::season::Expected;
use crate::scale::slo::{Decision, Params, Signals, Slo};

use super::{Input, Policy, Wanted, blind};

use learn::Learner;
use model::{Model, Unknown};

/// What it is called in records.
pub(super) const NAME: &str = "slo";
/// The least span of a tick of the arithmetic, in seconds: a timer is a little early at times.
const LEAST_TICK: f64 = 0.9;
/// Ticks that are made up at most, after a gap.
const MOST_TICKS: u32 = 60;
/// Share of the goal that p95 may take at a backend that serves well.
const GOOD: f64 = 0.8;
/// Before the first answers: requests in flight are counted over these, and may fill this share of the slots.
const WINDOWS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(6)];
const FILLED: f64 = 0.7;

#[derive(Debug)]
pub struct SloPolicy {
    config: config::SloPolicy,
    /// Slots that a backend is taken for before anything was seen.
    start: f64,
    arithmetic: Slo,
    learner: Learner,
    /// Seconds and arrivals since the last tick of the arithmetic.
    pending: (f64, f64),
    /// The lead time as it was measured last.
    lead: Option<Duration>,
    last: Option<(Decision, Model)>,
    /// What the season let expect when that was decided.
    expected: Option<Expected>,
}

impl SloPolicy {
    pub fn new(config: config::SloPolicy, concurrency: Option<&ConcurrencyPolicy>) -> Self {
        let params = Params {
            headroom: config.headroom,
            max_utilization: config.max_utilization,
            wait_probability: config.wait_probability,
            ..Params::default()
        };
        Self {
            start: concurrency.map_or(model::START, |policy| policy.target),
            arithmetic: Slo::new(params),
            learner: Learner::default(),
            pending: (0.0, 0.0),
            lead: None,
            last: None,
            expected: None,
            config,
        }
    }

    /// What the seconds of this sample tell.
    fn learn(&mut self, input: &Input<'_>) {
        if input.sample.stale {
            return;
        }
        self.pending.0 += input.sample.span.as_secs_f64();
        self.pending.1 += input.sample.traffic.arrivals;
        self.lead = input.sample.lead.or(self.lead);
        let configured = self.config.latency.map(|latency| latency.as_secs_f64());
        let goal = configured.or(self.last.as_ref().map(|(_, model)| model.goal));
        self.learner.look(input.sample, GOOD * goal.unwrap_or(f64::INFINITY));
    }

    /// Before the first answers there is nothing but the number of requests.
    fn unknown(&mut self, input: &Input<'_>) -> Proposed {
        self.pending = (0.0, 0.0);
        let load = |window| input.history.load(input.now, window);
        let Some(load) = WINDOWS.into_iter().filter_map(load).reduce(f64::max) else {
            return blind(NAME, input.current, "requests in flight");
        };
        let room = Term::number(FILLED, "").times(Term::number(self.start, "slots"));
        let wish = Term::number(load, "in flight").over(room).ceil();
        let (n, formula) = most(wish, Unknown::ServiceTime, input).finish();
        let proposed = Proposed {
            policy: NAME.to_owned(),
            n,
            formula,
            wanted: n,
            cause: Some(Reason::Learning),
            held: None,
            valid: true,
            note: Some("how long a request takes is not known yet".to_owned()),
        };
        words::unless(self.learner.bound(), proposed, input)
    }

    /// Hands whole seconds to the arithmetic.
    fn advance(&mut self, input: &Input<'_>, model: Model) -> Decision {
        let sample = input.sample;
        let (ready, fixed) = (sample.counts.ready, sample.fixed);
        let slots = f64::from(ready + fixed) * model.slots;
        let lead = self.lead.unwrap_or(self.config.lead_time);
        let season = input.season.filter(|_| self.config.seasonal);
        let expected = season.and_then(|season| season.expects(sample.wall, lead));
        let signals = |arrivals| Signals {
            arrivals,
            // Without a limit of its own a backend takes what comes: what exceeds its slots waits
            // there and not here.
            queued: sample.queued + (sample.traffic.busy - slots).max(0.0),
            ready: ready + fixed,
            spec: input.current + fixed,
            lead: lead.as_secs_f64(),
            slots: model.slots,
            service: model.service,
            wait: model.wait,
            season: expected.map_or(0.0, |expected| expected.rate()),
        };
        let (seconds, arrivals) = self.pending;
        if let Some((decision, _)) = self.last.as_ref().filter(|_| seconds < LEAST_TICK) {
            return *decision;
        }
        self.pending = (0.0, 0.0);
        self.expected = expected;
        let rate = arrivals / seconds.max(LEAST_TICK);
        let ticks = (seconds.round() as u32).clamp(1, MOST_TICKS);
        for _ in 1..ticks {
            self.arithmetic.tick(&signals(rate));
        }
        self.arithmetic.tick(&signals(rate))
    }
}

/// While something is not known: at most as many again as are ready, so that a mistake is no flood. None while those
/// that are there do less than they could.
fn most(wish: Term, unknown: Unknown, input: &Input<'_>) -> Term {
    let sample = input.sample;
    let ready = (sample.counts.ready + sample.fixed).max(1);
    let now = input.current + sample.fixed;
    let most = if unknown == Unknown::Cause { now } else { (2 * ready).max(now) };
    if wish.value() <= f64::from(most) {
        wish
    } else if most == now {
        wish.min(Term::count(now, "now"))
    } else {
        wish.min(Term::count(2, "").times(Term::count(ready, "ready")))
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
        self.learn(input);
        let known = Model::of(&self.config, self.start, &self.learner);
        // Once known it stays so, however long there was no traffic to learn from.
        let Some(model) = known.or(self.last.map(|(_, model)| model)) else {
            return self.unknown(input);
        };
        let decision = match self.last.filter(|_| input.sample.stale) {
            Some((decision, _)) => decision,
            None => self.advance(input, model),
        };
        self.last = Some((decision, model));
        let bound = self.learner.bound();
        words::proposed(&self.config, &decision, &model, self.expected, bound, input)
    }

    /// What the rate of now needs, with its head-room.
    fn needs(&self, input: &Input<'_>) -> Option<u32> {
        let (decision, _) = self.last.as_ref()?;
        Some(decision.base.saturating_sub(input.sample.fixed))
    }

    fn learned(&self) -> Option<Learned> {
        let quiet = model::quiet(&self.config);
        let pace = self.learner.pace();
        Some(Learned {
            service_time: self.learner.service(quiet)?,
            quantile: self.learner.quantile(quiet, self.config.quantile)?,
            pace: pace.seen()?,
            limited: pace.is_limited(),
            lead_time: self.lead.map(|lead| lead.as_secs_f64()),
        })
    }

    fn remember(&mut self, learned: &Learned) {
        self.learner.remember(learned);
        // Within a day: a number of a file.
        let lead = learned.lead_time.map(|lead| Duration::from_secs_f64(lead.clamp(0.0, 86_400.0)));
        self.lead = self.lead.or(lead);
    }
}
