//! The HPA written down a second time, from its documentation, pod by pod, and random cases of both.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::clock::Micros;
use crate::config::types::{Behaviour, LimitAmount, Select};
use crate::scale::fixture::{backends, percent, quick, seconds, target};
use crate::scale::formula::ceil;
use crate::scale::memory::micros;
use crate::scale::{Counts, Sample};

const TOLERANCE: f64 = 0.1;

/// "Algorithm details": the wish for pods that tell their CPU, are silent, or are not ready yet.
/// Also how far the quotient is from a whole number; `None`: nobody tells anything.
fn replicas(ready: &[Option<f64>], starting: usize, target: f64) -> Option<(u32, f64)> {
    let current = (ready.len() + starting) as u32;
    let told: Vec<f64> = ready.iter().copied().flatten().collect();
    if told.is_empty() {
        return None;
    }
    let ratio = told.iter().sum::<f64>() / told.len() as f64 / target;
    let mut pods = told.clone();
    let silent = ready.len() - told.len();
    if ratio < 1.0 {
        pods.extend(std::iter::repeat_n(target, silent));
    } else if ratio > 1.0 {
        pods.extend(std::iter::repeat_n(0.0, silent + starting));
    }
    let all = pods.iter().sum::<f64>() / pods.len() as f64 / target;
    let quotient = all * pods.len() as f64;
    // So near to a bound four digits may fall on either side of it.
    let doubt = [quotient - quotient.round(), all - 1.0 - TOLERANCE, all - 1.0 + TOLERANCE]
        .into_iter()
        .map(f64::abs)
        .fold((ratio - 1.0).abs(), f64::min);
    let turned = (ratio < 1.0 && all > 1.0) || (ratio > 1.0 && all < 1.0);
    if turned || (all - 1.0).abs() <= TOLERANCE {
        return Some((current, doubt));
    }
    let n = ceil(quotient) as u32;
    let turned = (all < 1.0 && n > current) || (all > 1.0 && n < current);
    Some((if turned { current } else { n }, doubt))
}

/// "Configurable scaling behavior": recommendations, events, and what they allow.
#[derive(Default)]
struct Controller {
    recommended: VecDeque<(Micros, u32)>,
    /// (when, added, removed)
    events: Vec<(Micros, u32, u32)>,
}

impl Controller {
    fn next(&mut self, now: Micros, current: u32, wish: u32, params: &Scaling) -> u32 {
        if self.recommended.is_empty() {
            self.recommended.push_back((now, current));
        }
        let within = |window: Duration| {
            let since = move |(at, _): &&(Micros, u32)| at + micros(window) > now;
            self.recommended.iter().filter(since).map(|(_, n)| *n).chain([wish])
        };
        let up = within(params.up.stabilization).min().unwrap_or(wish);
        let down = within(params.down.stabilization).max().unwrap_or(wish);
        self.recommended.push_back((now, wish));
        let stable = current.max(up).min(down);
        let to = match stable.cmp(&current) {
            std::cmp::Ordering::Equal => current,
            std::cmp::Ordering::Greater => {
                stable.min(self.bound(now, current, &params.up, true).max(current))
            }
            std::cmp::Ordering::Less => {
                stable.max(self.bound(now, current, &params.down, false).min(current))
            }
        };
        let to = to.clamp(params.min, params.max);
        self.events.push((now, to.saturating_sub(current), current.saturating_sub(to)));
        to
    }

    fn bound(&self, now: Micros, current: u32, behaviour: &Behaviour, up: bool) -> u32 {
        if behaviour.select == Select::Disabled {
            return current;
        }
        let bounds = behaviour.limits.iter().map(|limit| {
            let events = self.events.iter().filter(|(at, _, _)| at + micros(limit.per) > now);
            let (added, removed) = events.fold((0, 0), |(a, r), (_, x, y)| (a + x, r + y));
            let start = u64::from((current + removed).saturating_sub(added));
            let bound = match (limit.amount, up) {
                (LimitAmount::Backends(n), true) => start + u64::from(n),
                (LimitAmount::Backends(n), false) => start.saturating_sub(u64::from(n)),
                (LimitAmount::Percent(p), true) => (start * (100 + u64::from(p))).div_ceil(100),
                (LimitAmount::Percent(p), false) => start * u64::from(100 - p.min(100)) / 100,
            };
            bound as u32
        });
        let none = if up { u32::MAX } else { 0 };
        // The largest change is the largest number upwards and the least one downwards.
        match (behaviour.select == Select::Max) == up {
            true => bounds.max().unwrap_or(none),
            false => bounds.min().unwrap_or(none),
        }
    }
}

fn pods() -> impl Strategy<Value = Vec<Option<f64>>> {
    let pod = proptest::option::weighted(0.8, (0..250u32).prop_map(|c| f64::from(c) / 100.0));
    prop::collection::vec(pod, 1..12)
}

fn behaviour(longest: u64) -> impl Strategy<Value = Behaviour> {
    let limit =
        (any::<bool>(), 1..150u32, 1..8u32, 1..40u64).prop_map(|(is_part, part, n, per)| {
            if is_part { percent(part, per) } else { backends(n, per) }
        });
    let limits = prop::collection::vec(limit, 0..3);
    let select =
        prop_oneof![4 => Just(Select::Max), 3 => Just(Select::Min), 1 => Just(Select::Disabled)];
    (0..longest, select, limits).prop_map(|(window, select, limits)| Behaviour {
        stabilization: seconds(window),
        select,
        limits,
        cooldown: Duration::ZERO,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn target_wants_what_the_replica_calculator_wants(
        ready in pods(), starting in 0..5u32, at in 10..120u32,
    ) {
        let at = f64::from(at) / 100.0;
        let told: Vec<f64> = ready.iter().copied().flatten().collect();
        let mean = (!told.is_empty()).then(|| told.iter().sum::<f64>() / told.len() as f64);
        let mut params = quick();
        (params.min, params.max) = (0, 1000);
        params.targets = vec![("cpu".into(), target(Metric::Cpu, at))];
        let mut scaler = scaler(params);
        let counts = Counts { ready: ready.len() as u32, starting, ..Counts::default() };
        let missing = (ready.len() - told.len()) as u32;
        let signals = vec![Signal { missing, ..signal(Metric::Cpu, mean) }];
        let tick = scaler.tick(&Sample { counts, signals, ..sample(1, counts.ready, 0.0) });
        let wished = scaler.status().proposals[0].1;
        match replicas(&ready, starting as usize, at) {
            None => prop_assert_eq!(wished, counts.size(), "{:?}", tick),
            Some((n, doubt)) if doubt > 0.002 => prop_assert_eq!(wished, n, "{:?}", tick.record),
            Some((n, _)) => prop_assert!(wished.abs_diff(n) <= counts.size(), "{:?}", tick.record),
        }
    }

    #[test]
    fn the_pipeline_does_what_the_controller_does(
        up in behaviour(60), down in behaviour(90), bounds in (1..4u32, 0..40u32),
        found in 1..30u32, every in 1..20u64, wishes in prop::collection::vec(0..60u32, 1..60),
    ) {
        let mut params = quick();
        (params.up, params.down) = (up, down);
        (params.min, params.max) = (bounds.0, bounds.0 + bounds.1);
        params.queues = vec![("told".into(), told())];
        let (mut ours, mut theirs) = (Service::new(params.clone(), found), Controller::default());
        let (mut size, mut flips, mut was_up) = (found, 0, None);
        for (look, wish) in wishes.into_iter().enumerate() {
            let second = 1 + look as u64 * every;
            let before = size;
            size = theirs.next(second * 1_000_000, size, wish, &params);
            prop_assert_eq!(ours.wants(second, wish), size, "look {} with {}", look, params.max);
            if size != before {
                flips += u32::from(was_up.replace(size > before).is_some_and(|up| up != (size > before)));
            }
            // From then on the window is doubled, which is ours alone.
            if flips > 6 {
                break;
            }
        }
    }
}
