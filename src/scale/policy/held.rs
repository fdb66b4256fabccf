//! `held`: as many as what waits for them can use, while nothing runs (`min = 0`).
//!
//! From nothing no other policy can tell how many: there is no load on any backend. ceil(max(held, a second's arrivals) ÷
//! slots), so that what waits finds a slot each. Once one is ready the others decide.

use std::time::Duration;

use crate::config::types::Hold;
use crate::scale::formula::Term;
use crate::scale::record::Proposed;

use super::{Input, Policy, Wanted};

/// Arrivals of a shorter time say nothing of a rate.
const LEAST: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Held {
    slots: u32,
}

impl Held {
    pub fn new(hold: &Hold) -> Self {
        Self { slots: hold.slots }
    }
}

impl Policy for Held {
    fn name(&self) -> &str {
        "held"
    }

    fn wanted(&self) -> Vec<Wanted> {
        Vec::new()
    }

    fn propose(&mut self, input: &Input<'_>) -> Proposed {
        let sample = input.sample;
        let asleep = sample.counts.ready == 0 && sample.queued > 0.0;
        let held = if asleep { sample.queued } else { 0.0 };
        let mut wanting = Term::number(held, "held");
        if asleep && sample.span >= LEAST {
            let rate = sample.traffic.arrivals / sample.span.as_secs_f64();
            wanting = wanting.max(Term::number(rate, "rps"));
        }
        let (n, formula) = wanting.over(Term::count(self.slots, "slots")).ceil().finish();
        Proposed {
            policy: self.name().to_owned(),
            n,
            formula,
            wanted: n,
            held: None,
            cause: None,
            valid: true,
            note: (!asleep).then(|| "only while nothing runs".to_owned()),
        }
    }

    fn needs(&self, _input: &Input<'_>) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Sample;
    use crate::scale::fixture::sample;
    use crate::scale::history::History;
    use crate::scale::sample::Traffic;

    fn proposed(sample: &Sample) -> (u32, String) {
        let history = History::default();
        let input = Input {
            now: sample.at,
            sample,
            history: &history,
            current: 0,
            max_age: Duration::from_secs(15),
            saturated: false,
            season: None,
        };
        let proposed = Held { slots: 4 }.propose(&input);
        (proposed.n, proposed.formula)
    }

    #[test]
    fn a_slot_for_each_that_waits() {
        let asleep = sample(1, 0, 0.0);
        assert_eq!(proposed(&asleep).0, 0);
        let woken = Sample { queued: 1.0, span: Duration::from_millis(3), ..asleep.clone() };
        assert_eq!(proposed(&woken), (1, "ceil(1 held ÷ 4 slots) = 1".to_owned()));
        let traffic = Traffic { arrivals: 20.0, ..Traffic::default() };
        let busy = Sample { queued: 9.0, traffic, ..asleep.clone() };
        assert_eq!(proposed(&busy), (5, "ceil(max(9 held, 20 rps) ÷ 4 slots) = 5".to_owned()));
        assert_eq!(proposed(&Sample { queued: 9.0, ..sample(1, 1, 0.0) }).0, 0, "others know more");
    }
}
