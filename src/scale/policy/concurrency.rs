//! `concurrency`: requests in flight over a target per backend, with Knative's arithmetic.
//!
//! Source: the Knative Pod Autoscaler. The stable wish is ceil(mean over 60 s ÷ (utilization ×
//! target)), the panic wish the same over 6 s. When the panic wish is twice the ready backends,
//! panic begins: the number then only rises, until a whole stable window has passed without.
//! Knative's own rate limits are left to the pipeline.

use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::ConcurrencyPolicy;
use crate::scale::formula::Term;
use crate::scale::record::Proposed;

use super::{Input, Policy, Wanted, blind};

const STABLE: Duration = Duration::from_secs(60);
const PANIC: Duration = Duration::from_secs(6);
/// Panic begins when the panic wish is this many times the ready backends.
const PANIC_THRESHOLD: f64 = 2.0;

/// Panic mode: when it was last justified, and the largest wish in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panic {
    pub last: Micros,
    pub peak: u32,
}

#[derive(Debug)]
pub struct Concurrency {
    params: ConcurrencyPolicy,
    panic: Option<Panic>,
}

impl Concurrency {
    pub fn new(params: ConcurrencyPolicy) -> Self {
        Self { params, panic: None }
    }

    fn wish(&self, load: f64, unit: &str) -> Term {
        let per_backend =
            Term::number(self.params.utilization, "").times(Term::number(self.params.target, ""));
        Term::number(load, unit).over(per_backend).ceil()
    }

    /// Enters, extends or leaves panic mode.
    fn judge(&mut self, now: Micros, ready: u32, panic_wish: f64) {
        if panic_wish / f64::from(ready.max(1)) >= PANIC_THRESHOLD {
            let peak = self.panic.map_or(0, |panic| panic.peak);
            self.panic = Some(Panic { last: now, peak });
        } else if self.panic.is_some_and(|p| p.last + (STABLE.as_micros() as Micros) < now) {
            self.panic = None;
        }
    }
}

impl Policy for Concurrency {
    fn name(&self) -> &str {
        "concurrency"
    }

    fn wanted(&self) -> Vec<Wanted> {
        Vec::new()
    }

    fn propose(&mut self, input: &Input<'_>) -> Proposed {
        let loads = input.history.load(input.now, STABLE).zip(input.history.load(input.now, PANIC));
        let Some((stable, lately)) = loads else {
            return blind(self.name(), input.current, "requests in flight");
        };
        let stable = self.wish(stable, "in flight");
        let lately = self.wish(lately, "in flight lately");
        self.judge(input.now, input.sample.counts.ready, lately.value());
        let (wish, note) = match &mut self.panic {
            None => (stable, None),
            Some(panic) => {
                let mut wish = stable.max(lately);
                if f64::from(panic.peak) > wish.value() {
                    wish = wish.max(Term::count(panic.peak, "so far"));
                }
                panic.peak = wish.value() as u32;
                (wish, Some("panic mode: only up, for 60 s".to_owned()))
            }
        };
        let (n, formula) = wish.finish();
        Proposed {
            policy: self.name().to_owned(),
            n,
            formula,
            wanted: n,
            cause: None,
            held: None,
            valid: true,
            note,
        }
    }

    fn needs(&self, input: &Input<'_>) -> Option<u32> {
        let load = input.history.load(input.now, PANIC)?;
        Some(self.wish(load, "").finish().0)
    }

    fn panic(&self) -> Option<Panic> {
        self.panic
    }

    fn resume(&mut self, panic: Panic) {
        self.panic = Some(panic);
    }
}
