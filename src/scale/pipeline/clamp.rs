//! Between `min` and `max`; and nothing is removed while fewer than `min` are healthy. With `min = 0` the last backend
//! stays until there was no request for `idle_after`, and comes back with the first that comes.

use crate::config::types::Hold;
use crate::scale::memory::micros;

use super::{Change, Reason, View};

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    let params = view.params;
    let change = |to, reason| Some(Change { to, reason, until: None });
    if let Some(hold) = &params.hold
        && n <= 1
        && params.min == 0
    {
        return sleep(n, view, hold);
    }
    if n > params.max {
        return change(params.max, Reason::AtMax);
    }
    if n < params.min {
        // Also lifts a service that is below it, whatever the limits say.
        if view.from > params.min && view.sample.counts.ready < params.min {
            return change(view.from.min(params.max), Reason::MinHealthy);
        }
        return change(params.min, Reason::AtMin);
    }
    if n < view.from && view.sample.counts.ready < params.min {
        return change(view.from.min(params.max), Reason::MinHealthy);
    }
    None
}

/// None or one: that is not the policies' to say, as no request is no load, and no load says nothing of whether one comes.
fn sleep(n: u32, view: &View<'_>, hold: &Hold) -> Option<Change> {
    let change = |to, reason, until| (n != to).then_some(Change { to, reason, until });
    match is_idle(view, hold) {
        // Who cannot see does not send the last one away.
        true if view.memory.stale > 0 => change(view.from.min(1), Reason::StaleUpOnly, None),
        true => change(0, Reason::Idle, None),
        false => {
            let until = view.sample.last_request.map(|last| last + micros(hold.idle_after));
            change(1.min(view.params.max), Reason::Awake, until)
        }
    }
}

/// Nobody waits, nothing runs on any backend, nothing waits elsewhere, and the last request is long ago.
pub fn is_idle(view: &View<'_>, hold: &Hold) -> bool {
    let sample = view.sample;
    let quiet = sample.last_request.is_none_or(|last| last + micros(hold.idle_after) <= view.now);
    quiet
        && !view.asked
        && sample.queued == 0.0
        && sample.candidates.iter().all(|c| c.in_flight == 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::types::Scaling;
    use crate::scale::fixture::{concurrency, params, sample, seconds};
    use crate::scale::record::Action;
    use crate::scale::{Candidate, Life, Sample, Scaler};

    fn sleeper() -> Scaler {
        let hold = Hold {
            idle_after: seconds(60),
            queue: 10,
            bytes: 1 << 20,
            per_client: 10,
            timeout: seconds(30),
            ignore_paths: Vec::new(),
            page: None,
            slots: 5,
        };
        // Of the down window's five minutes the last one takes no notice.
        let params =
            Scaling { min: 0, hold: Some(hold), concurrency: concurrency(5.0, 1.0), ..params() };
        Scaler::new("app".into(), params, 1)
    }

    /// The size after a tick, and why, if it changed.
    fn after(scaler: &mut Scaler, sample: Sample) -> (u32, Option<Reason>) {
        let tick = scaler.tick(&sample);
        let reason = tick.record.and_then(|record| match record.action {
            Action::Scale { reason, .. } => Some(reason),
            _ => None,
        });
        (tick.plan.map_or(99, |plan| plan.size), reason)
    }

    #[test]
    fn the_last_one_goes_after_idle_after_and_comes_back_with_a_request() {
        let mut scaler = sleeper();
        let last = |second: u64| Some(second * 1_000_000);
        assert_eq!(after(&mut scaler, sample(1, 0, 0.0)), (0, None));
        let woken = Sample { queued: 12.0, last_request: last(2), ..sample(2, 0, 0.0) };
        assert_eq!(after(&mut scaler, woken), (3, Some(Reason::Policy)));
        let one = |second, asked| Sample { last_request: last(asked), ..sample(second, 1, 0.0) };
        let mut scaler = sleeper();
        assert_eq!(after(&mut scaler, one(100, 90)), (1, None));
        assert_eq!(after(&mut scaler, one(149, 90)), (1, None));
        let candidate = Candidate {
            id: "a".into(),
            zone: None,
            life: Life::Ready,
            broken: false,
            in_flight: 1,
            latency: 0.0,
            since: 0,
        };
        let busy = Sample { candidates: vec![candidate], ..one(151, 90) };
        assert_eq!(after(&mut scaler, busy), (1, None), "a tunnel is in use, however quiet");
        assert_eq!(after(&mut scaler, one(152, 90)), (0, Some(Reason::Idle)));
        // The next one that comes needs nobody's opinion.
        let asked = Sample {
            last_request: last(153),
            span: Duration::from_millis(1),
            ..sample(153, 0, 0.0)
        };
        assert_eq!(after(&mut scaler, asked), (1, Some(Reason::Awake)));
    }
    #[test]
    fn none_is_nobodys_wish_also_from_more_than_one() {
        let mut scaler = sleeper();
        let two = |second| Sample { last_request: Some(1_000_000), ..sample(second, 2, 0.4) };
        let changed = (100..1000).map(|second| after(&mut scaler, two(second)));
        let changed = changed.into_iter().find(|(_, reason)| reason.is_some());
        assert_eq!(changed, Some((0, Some(Reason::Idle))));
    }
}
