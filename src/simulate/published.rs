//! Our `concurrency` with Knative's rates as limits, beside the reference that was written from Knative's
//! publications: the same sizes, look after look, whatever the load does.

use std::time::Duration;

use proptest::prelude::*;

use crate::config::types::{LimitAmount, ScaleLimit, Scaling};
use crate::scale::fixture;
use crate::scale::{Reason, Sample, Scaler, Stage};

use super::load::Load;
use super::policy::{Kind, Seen};
use super::setting::Setting;

/// Requests in flight, second by second: what lasts a while, what comes for a moment, and nothing.
fn loads() -> impl Strategy<Value = Vec<u32>> {
    let stretch = (0..90u32, 1..40usize).prop_map(|(load, time)| vec![load; time]);
    prop::collection::vec(stretch, 1..12).prop_map(|stretches| stretches.concat())
}

/// Looks every two seconds; at most a thousand times as many, and at least half.
fn scaling(setting: &Setting) -> Scaling {
    let rate = |percent| {
        let per = Duration::from_secs(2);
        vec![ScaleLimit { amount: LimitAmount::Percent(percent), per }]
    };
    let mut scaling = fixture::quick();
    (scaling.min, scaling.max) = (setting.min, setting.max);
    scaling.concurrency = fixture::concurrency(setting.slots, 0.7);
    (scaling.up.limits, scaling.down.limits) = (rate(99_900), rate(50));
    scaling
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn concurrency_is_knatives(loads in loads(), slots in 1..12u32, max in 5..90u32) {
        let setting = Setting { slots: f64::from(slots), min: 1, max, ..Setting::standard(0.0) };
        let load = Load { name: "any".into(), rates: vec![1.0], exact: false, begins: None };
        let mut theirs = Kind::Kpa.build(&setting, &load);
        let mut ours = Scaler::new("app".into(), scaling(&setting), 1);
        let (mut size, mut since) = (1, 0.0);
        for (second, in_flight) in (0u64..).zip(&loads) {
            let in_flight = f64::from(*in_flight);
            since += in_flight;
            let seen = Seen { second, busy: in_flight, ready: size, size, ..Seen::default() };
            let published = theirs.tick(&seen);
            if second % 2 == 1 {
                continue;
            }
            let span = if second == 0 { 1 } else { 2 };
            let sample = Sample {
                span: fixture::seconds(span),
                ..fixture::sample(second + 1, size, since / span as f64)
            };
            since = 0.0;
            let plan = ours.tick(&sample).plan;
            let decided = plan.map_or(size, |plan| plan.size);
            // The flap breaker is ours alone.
            if ours.status().limited_by == Some((Stage::Stabilization, Reason::Flapping)) {
                break;
            }
            // Knative goes down to the mean of a minute also while the last seconds need more.
            let kept = ours.status().limited_by == Some((Stage::Projection, Reason::Projection));
            let same = if kept { decided > published } else { decided == published };
            prop_assert!(same, "{} for {} at {}: {:?}", decided, published, second, ours.status());
            size = decided;
        }
    }
}
