//! Whom to remove, and whom to bring back first.
//!
//! Starting before unhealthy before ready; among the ready ones from the fullest zone, then the
//! one with the fewest requests in flight, the slowest, the youngest. Bringing back is the same
//! order from the other end.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Candidate, Life};

/// The `k` that cost least to lose, in order.
pub fn choose(candidates: &[Candidate], k: usize) -> Vec<&Candidate> {
    let mut left: Vec<&Candidate> =
        candidates.iter().filter(|candidate| candidate.life != Life::Draining).collect();
    let mut chosen = Vec::new();
    while chosen.len() < k && !left.is_empty() {
        let zones = zones(&left);
        let at = (0..left.len()).min_by_key(|at| rank(left[*at], &zones)).unwrap_or(0);
        chosen.push(left.swap_remove(at));
    }
    chosen
}

/// The `k` draining ones that are best to have back, in order. Broken ones are let go.
pub fn bring_back(candidates: &[Candidate], k: usize) -> Vec<&Candidate> {
    let mut draining: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.life == Life::Draining && !candidate.broken)
        .collect();
    draining.sort_by_key(|candidate| Reverse(rank(candidate, &BTreeMap::new())));
    draining.truncate(k);
    draining
}

type Zones = BTreeMap<Option<Arc<str>>, usize>;

/// Ready backends by zone, among those that are left.
fn zones(left: &[&Candidate]) -> Zones {
    let mut zones = Zones::new();
    for candidate in left.iter().filter(|c| c.life == Life::Ready && !c.broken) {
        *zones.entry(candidate.zone.clone()).or_default() += 1;
    }
    zones
}

/// The smallest goes first.
fn rank<'a>(candidate: &'a Candidate, zones: &Zones) -> impl Ord + use<'a> {
    let class = match (candidate.life, candidate.broken) {
        (Life::Starting, _) => 0,
        (_, true) => 1,
        _ => 2,
    };
    let crowd = zones.get(&candidate.zone).copied().unwrap_or(0);
    let latency = (candidate.latency * 1e6) as u64;
    // Starting ones: the youngest has the longest way to go.
    let in_flight = if class == 0 { 0 } else { candidate.in_flight };
    let crowd = if class == 2 { crowd } else { 0 };
    (class, Reverse(crowd), in_flight, Reverse(latency), Reverse(candidate.since), &candidate.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(id: &str, in_flight: u32) -> Candidate {
        Candidate {
            id: id.into(),
            zone: None,
            life: Life::Ready,
            broken: false,
            in_flight,
            latency: 0.05,
            since: 0,
        }
    }

    fn names(chosen: Vec<&Candidate>) -> Vec<&str> {
        chosen.into_iter().map(|candidate| &*candidate.id).collect()
    }

    #[test]
    fn starting_then_unhealthy_then_idle_then_slow_then_young() {
        let all = [
            Candidate { since: 9, ..backend("young", 1) },
            Candidate { latency: 0.2, ..backend("slow", 1) },
            backend("idle", 0),
            Candidate { broken: true, ..backend("unhealthy", 7) },
            Candidate { life: Life::Starting, ..backend("starting", 0) },
            Candidate { life: Life::Draining, ..backend("draining", 0) },
            backend("old", 1),
        ];
        assert_eq!(
            names(choose(&all, 9)),
            ["starting", "unhealthy", "idle", "slow", "young", "old"]
        );
    }

    #[test]
    fn zones_stay_balanced() {
        let zone = |id: &str, zone: &str, in_flight| Candidate {
            zone: Some(zone.into()),
            ..backend(id, in_flight)
        };
        let all = [zone("a1", "a", 5), zone("a2", "a", 6), zone("a3", "a", 7), zone("b1", "b", 0)];
        assert_eq!(names(choose(&all, 2)), ["a1", "a2"]);
    }

    #[test]
    fn the_busiest_draining_one_comes_back_first() {
        let draining = |id: &str, n| Candidate { life: Life::Draining, ..backend(id, n) };
        let all = [draining("idle", 0), draining("busy", 4), backend("ready", 9)];
        assert_eq!(names(bring_back(&all, 1)), ["busy"]);
    }
}
