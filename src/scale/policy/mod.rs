//! Scaling policies: each looks at the history and proposes a number with its arithmetic.
//!
//! A policy knows nothing of limits, windows of others or operators: that is the pipeline's.
//! Its numbers are capacity (ready and starting backends); broken ones are added by the health
//! gate. Adding a policy is a new file, a line in [`build`], a key in the configuration and a test.

mod concurrency;
mod held;
mod queue;
mod slo;
mod target;
mod threshold;

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::{Metric, Scaling};

use super::formula::Term;
use super::history::{History, additive};
use super::record::{Proposed, Reason};
use super::{Learned, Sample, Season, Signal};

pub use concurrency::Panic;

/// History that `slo` wants to have before anything is removed.
pub const SLO_HISTORY: Duration = Duration::from_secs(60);

/// Span over which means and quantiles of signals are taken; the period of the HPA's loop.
pub const WINDOW: Duration = Duration::from_secs(15);
/// Signals from orchestrators come at least this often; three missed ones are no signal.
pub const SLOWEST_SIGNAL: Duration = Duration::from_secs(5);
/// A backend or a service is showing signs of saturation above this utilization.
const SATURATED: f64 = 0.5;

/// A signal that a policy needs in every sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub metric: Metric,
    /// For `response_time`; 0 for all others.
    pub quantile: f64,
    /// The span that a quantile or a ratio is taken over. Means per backend (cpu, memory,
    /// in_flight, rps, connections) are of the tick alone; the history averages them.
    pub window: Duration,
}

/// What a policy decides from.
#[derive(Debug)]
pub struct Input<'a> {
    pub now: Micros,
    pub sample: &'a Sample,
    pub history: &'a History,
    /// Capacity that is meant to be there: the wanted size without the broken ones.
    pub current: u32,
    /// A signal older than this is none.
    pub max_age: Duration,
    /// A queue, or utilization above one half.
    pub saturated: bool,
    /// The days before, where somebody asks for them.
    pub season: Option<&'a Season>,
}

/// One way to find a number.
pub trait Policy: Debug + Send {
    /// `concurrency`, `target cpu`
    fn name(&self) -> &str;

    /// Signals that it needs.
    fn wanted(&self) -> Vec<Wanted>;

    /// What it proposes now. Called once a tick.
    fn propose(&mut self, input: &Input<'_>) -> Proposed;

    /// The least capacity that would hold what it sees at this moment, where it can tell.
    fn needs(&self, input: &Input<'_>) -> Option<u32>;

    /// Whether its wish says by itself that there is something to do, so that a service without
    /// requests is not asleep (`min = 0`): jobs that wait elsewhere.
    fn asks(&self) -> bool {
        false
    }

    /// What it remembers, for its successor after a reload.
    fn panic(&self) -> Option<Panic> {
        None
    }

    /// Goes on from there.
    fn resume(&mut self, _panic: Panic) {}

    /// What it has learned of the backends, where it does.
    fn learned(&self) -> Option<Learned> {
        None
    }

    /// Takes that for its own, until it knows better.
    fn remember(&mut self, _learned: &Learned) {}
}

/// The policies of a configuration, in the order they are shown.
pub fn build(params: &Scaling) -> Vec<Box<dyn Policy>> {
    let mut policies: Vec<Box<dyn Policy>> = Vec::new();
    if let Some(slo) = &params.slo {
        policies.push(Box::new(slo::SloPolicy::new(slo.clone(), params.concurrency.as_ref())));
    }
    if let Some(params) = &params.concurrency {
        policies.push(Box::new(concurrency::Concurrency::new(params.clone())));
    }
    for (name, params) in &params.targets {
        policies.push(Box::new(target::Target::new(name, params.clone())));
    }
    for (name, params) in &params.thresholds {
        policies.push(Box::new(threshold::Threshold::new(name, params.clone())));
    }
    if let Some(hold) = &params.hold {
        policies.push(Box::new(held::Held::new(hold)));
    }
    for (name, params) in &params.queues {
        policies.push(Box::new(queue::Queue::new(name, params.clone())));
    }
    policies
}

/// Puts the `slo` policy of before in the place of a new one with the same settings, with all that
/// it has learned.
pub fn keep_learned(policies: &mut [Box<dyn Policy>], before: Vec<Box<dyn Policy>>) {
    let is_slo = |policy: &dyn Policy| policy.name() == slo::NAME;
    let old = before.into_iter().find(|policy| is_slo(&**policy));
    let new = policies.iter_mut().find(|policy| is_slo(&***policy));
    if let (Some(new), Some(old)) = (new, old) {
        *new = old;
    }
}

/// Signs of saturation: requests wait, processors are half busy, or half of the concurrency target is in flight.
pub fn saturated(params: &Scaling, sample: &Sample, history: &History) -> bool {
    let busy = sample.signal(&Metric::Cpu, 0.0, WINDOW).and_then(|signal| signal.value);
    let full = params.concurrency.as_ref().and_then(|policy| {
        let load = history.load(sample.at, WINDOW)?;
        Some(load / (policy.target * f64::from(sample.counts.ready.max(1))))
    });
    sample.queued > 0.0
        || busy.is_some_and(|u| u > SATURATED)
        || full.is_some_and(|u| u > SATURATED)
}

/// `cpu`, `response_time p95`
pub fn metric_name(metric: &Metric, quantile: f64) -> String {
    let name = match metric {
        Metric::Cpu => "cpu",
        Metric::Memory => "memory",
        Metric::ResponseTime => "response_time",
        Metric::ErrorRate => "error_rate",
        Metric::ClientErrorRate => "client_error_rate",
        Metric::InFlight => "in_flight",
        Metric::Queued => "queued",
        Metric::Rps => "rps",
        Metric::Connections => "connections",
        Metric::External(name) => &**name,
    };
    if *metric == Metric::ResponseTime {
        format!("{name} p{}", super::formula::rounded(quantile * 100.0))
    } else {
        name.to_owned()
    }
}

fn wanted_for(metric: &Metric, quantile: f64, window: Duration) -> Vec<Wanted> {
    let quantile = if *metric == Metric::ResponseTime { quantile } else { 0.0 };
    let window = if metric.is_windowed() { window } else { WINDOW };
    let mut wanted = vec![Wanted { metric: metric.clone(), quantile, window }];
    if metric.is_of_errors() {
        // To tell errors of an overloaded service from those of a broken one.
        wanted.push(Wanted { metric: Metric::Cpu, quantile: 0.0, window: WINDOW });
    }
    wanted
}

/// A metric, read for a policy.
struct Reading {
    /// Per reporting backend, or the service's.
    value: f64,
    /// Ready backends that report; all of them where the metric is the service's.
    reporting: u32,
    missing: u32,
}

fn read(input: &Input<'_>, metric: &Metric, quantile: f64, window: Duration) -> Option<Reading> {
    let quantile = if *metric == Metric::ResponseTime { quantile } else { 0.0 };
    let signal: &Signal = input.sample.signal(metric, quantile, window)?;
    let ready = input.sample.counts.ready;
    let good = |value: &f64| value.is_finite() && *value >= 0.0;
    if let Metric::External(_) = metric {
        // Whoever asks for it knows when it is stale. It is there with no backend, too.
        let value = signal.value.filter(good)?;
        return Some(Reading { value, reporting: ready, missing: 0 });
    }
    let per_backend = !metric.is_windowed();
    // Without a single request there is no response time; that is calm, not missing data.
    let idle = !per_backend && input.history.load(input.now, WINDOW) == Some(0.0);
    let value = signal.value.or(idle.then_some(0.0)).filter(good)?;
    let missing = if per_backend { signal.missing.min(ready) } else { 0 };
    let reporting = ready - missing;
    if signal.age > input.max_age || reporting == 0 {
        return None;
    }
    let value = if additive(metric) {
        input.history.sum(metric, input.now, WINDOW)? / f64::from(reporting)
    } else {
        value
    };
    Some(Reading { value, reporting, missing })
}

/// A metric's name as a unit in a formula: letters only, so that nothing in it is read as arithmetic.
fn words(name: &str) -> String {
    name.replace(|c: char| !c.is_alphabetic() && c != '_', " ").trim().to_owned()
}

/// No data: the present capacity, and nothing may be removed.
fn blind(name: &str, current: u32, what: &str) -> Proposed {
    let (n, formula) = Term::count(current, "now").finish();
    Proposed {
        policy: name.to_owned(),
        n,
        formula,
        wanted: n,
        cause: None,
        held: Some(Reason::MetricMissing),
        valid: false,
        note: Some(format!("no data for {what}")),
    }
}
