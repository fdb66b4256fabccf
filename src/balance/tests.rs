//! Picking as a whole: golden sequences, shares with fixed seeds, and properties.

mod affinity;
mod random;
mod reports;
mod world;
mod zones;

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::types as config;
use crate::snapshot::hash;
use crate::upstream::backend::{Backend, Source};
use crate::upstream::gate::State;
use crate::upstream::outlier::{Blow, Outlier, Why};

pub(super) use world::{World, member, members};

const SECOND: Micros = 1_000_000;
const ALL: [Balance; 8] = [
    Balance::Adaptive,
    Balance::RoundRobin,
    Balance::LeastConnections,
    Balance::Random,
    Balance::P2cEwma,
    Balance::IpHash,
    Balance::NginxIpHash,
    Balance::Hash,
];

const RULES: config::Outlier = config::Outlier {
    consecutive_failures: 5,
    success_rate_deviations: 0.0,
    failure_percent: 0,
    ejection_time: Duration::from_secs(10),
    max_ejection_time: Duration::from_secs(300),
    max_ejected: 0.5,
};

#[test]
fn smooth_round_robin_gives_nginx_sequences() {
    let mut world = World::new(Balance::RoundRobin, members(&[5, 1, 1]));
    assert_eq!(world.sequence(14), [1, 1, 2, 1, 3, 1, 1, 1, 1, 2, 1, 3, 1, 1]);
    let mut world = World::new(Balance::RoundRobin, members(&[1, 2, 3]));
    assert_eq!(world.sequence(6), [3, 2, 1, 3, 2, 3]);
    let mut world = World::new(Balance::RoundRobin, members(&[4, 4, 4]));
    assert_eq!(world.sequence(5), [1, 2, 3, 1, 2]);
}

#[test]
fn round_robin_skips_what_is_unavailable_and_goes_on_in_order() {
    let mut world = World::new(Balance::RoundRobin, members(&[1, 1, 1]));
    assert_eq!(world.sequence(2), [1, 2]);
    world.members[2].backend.gate.set_healthy(false);
    assert_eq!(world.sequence(3), [1, 2, 1]);
    world.members[2].backend.gate.set_healthy(true);
    assert_eq!(world.sequence(3), [2, 3, 1]);
}

#[test]
fn round_robin_keeps_its_place_when_members_change() {
    let mut world = World::new(Balance::RoundRobin, members(&[5, 1, 1]));
    assert_eq!(world.sequence(4), [1, 1, 2, 1]);
    world.members.insert(0, member(9, 1, false));
    world.sync();
    // 3 was next and still comes before the heavy one has had all its turns again.
    assert!(world.sequence(3).contains(&3));
}

#[test]
fn least_connections_fills_by_weight_and_settles_ties_in_turn() {
    let mut world = World::new(Balance::LeastConnections, members(&[2, 1]));
    for _ in 0..30 {
        world.pick(&[]).expect("available");
    }
    let in_flight: Vec<u32> = world.members.iter().map(|m| m.backend.gate.in_flight()).collect();
    assert_eq!(in_flight, [20, 10]);
    let mut idle = World::new(Balance::LeastConnections, members(&[1, 1, 1]));
    assert_eq!(idle.sequence(6), [1, 2, 3, 1, 2, 3]);
}

#[test]
fn p2c_keeps_away_from_the_slow_and_spreads_over_equals() {
    let mut world = World::new(Balance::P2cEwma, members(&[1; 16]));
    for (i, m) in world.members.iter().enumerate() {
        m.backend.latency.record(if i < 2 { 800_000.0 } else { 50_000.0 }, SECOND);
    }
    let shares = world.shares(10_000);
    assert_eq!(shares[..2], [0.0, 0.0], "three draws always include a fast one");
    assert!(shares[2..].iter().all(|s| (0.055..0.09).contains(s)), "{shares:?}");
}

#[test]
fn p2c_spreads_over_two_that_nothing_is_known_of() {
    let mut world = World::new(Balance::P2cEwma, members(&[1, 1]));
    let shares = world.shares(2000);
    assert!((0.45..0.55).contains(&shares[0]), "{shares:?}");
}

#[test]
fn p2c_does_not_starve_a_newcomer_beside_fast_peers() {
    let mut world = World::new(Balance::P2cEwma, members(&[1, 1, 1]));
    for m in &world.members[1..] {
        m.backend.latency.record(500.0, SECOND);
    }
    let shares = world.shares(3000);
    assert!((0.28..0.39).contains(&shares[0]), "{shares:?}");
}

#[test]
fn p2c_finds_the_few_available_among_many() {
    let mut world = World::new(Balance::P2cEwma, members(&[1; 1000]));
    for m in &world.members[3..] {
        m.backend.gate.set_healthy(false);
    }
    let shares = world.shares(3000);
    assert!(shares[..3].iter().all(|s| (0.29..0.38).contains(s)), "{:?}", &shares[..3]);
}

#[test]
fn slow_start_climbs_and_is_off_when_most_are_ramping() {
    let mut world = World::new(Balance::RoundRobin, members(&[1, 1, 1]));
    world.members[0].backend.ramp(SECOND);
    // 2 s into 10: a fifth of the others' share.
    world.now += 2 * SECOND;
    let shares = world.shares(1100);
    assert!((shares[0] - 0.2 / 2.2).abs() < 0.01, "{shares:?}");
    world.now += 8 * SECOND;
    let shares = world.shares(300);
    assert!((shares[0] - 1.0 / 3.0).abs() < 0.01, "{shares:?}");
    let now = world.now;
    world.members[1..].iter().for_each(|m| m.backend.ramp(now));
    world.now += SECOND;
    let shares = world.shares(300);
    assert!((shares[0] - 1.0 / 3.0).abs() < 0.01, "{shares:?}");
}

#[test]
fn backups_serve_when_no_other_can() {
    for kind in ALL {
        let mut world = World::new(kind, vec![member(1, 1, false), member(2, 1, true)]);
        assert_eq!(world.sequence(3), [1, 1, 1], "{kind:?}");
        assert_eq!(world.touch(&[1]), Some(2), "{kind:?}: a retry may use it");
        assert_eq!(world.touch(&[1, 2]), None, "{kind:?}");
        Outlier::eject_anyway(&world.members[0].backend);
        assert_eq!(world.touch(&[]), Some(2), "{kind:?}");
    }
}

#[test]
fn an_ejected_backend_is_better_than_none() {
    for kind in ALL {
        let outliers = Outliers::default();
        let under = |member: Member| {
            let backend = Arc::into_inner(member.backend).expect("nobody else has it");
            Member { backend: Arc::new(backend.under(outliers.cap())), ..member }
        };
        let members = members(&[1; 3]).into_iter().map(under).collect();
        let mut world = World { outliers, ..World::new(kind, members) };
        let eject = |world: &mut World, i: usize| {
            let why = Why::Consecutive { failures: 5, last: Blow::Reset };
            let members = world.members.iter().map(|m| &*m.backend);
            let (backend, rng, now) = (&world.members[i].backend, &mut world.rng, world.now);
            world.outliers.eject(backend, why, &RULES, members, rng, now)
        };
        assert!(eject(&mut world, 0), "{kind:?}");
        assert!((0..30).all(|_| world.touch(&[]) != Some(1)), "{kind:?}");
        assert_eq!(world.touch(&[2, 3]), None, "{kind:?}: a request that failed had somebody");
        world.members[1].backend.set_state(State::Draining);
        world.members[2].backend.gate.set_healthy(false);
        assert_eq!(world.touch(&[]), Some(1), "{kind:?}");
        world.members[0].backend.gate.set_healthy(false);
        assert_eq!(world.touch(&[]), None, "{kind:?}");
    }
}

#[test]
fn in_panic_health_is_ignored_but_not_readiness() {
    for kind in ALL {
        let mut world = World::new(kind, members(&[1; 4]));
        for m in &world.members[..3] {
            m.backend.gate.set_healthy(false);
        }
        world.members[0].backend.set_state(State::Draining);
        assert_eq!(world.touch(&[4]), None, "{kind:?}: no panic without a threshold");
        world.panic_threshold = 0.5;
        world.now += SECOND;
        assert!(world.touch(&[4]).is_some_and(|uid| uid == 2 || uid == 3), "{kind:?}");
        assert_eq!(world.touch(&[2, 3, 4]), None, "{kind:?}: draining takes no part");
        world.members[3].backend.gate.set_healthy(false);
        assert!(world.touch(&[]).is_some(), "{kind:?}: seen at once when nobody is healthy");
        // Backups that are healthy come first.
        world.members.push(member(5, 1, true));
        world.sync();
        assert_eq!(world.touch(&[]), Some(5), "{kind:?}");
    }
}

#[test]
fn who_is_full_is_not_picked_and_when_all_are_nobody_is() {
    for kind in ALL {
        let mut world = World::new(kind, members(&[1, 9]));
        world.max_in_flight = 2;
        let mut picked: Vec<_> = (0..4).map(|_| world.pick(&[])).collect();
        picked.sort_unstable();
        assert_eq!(picked, [Some(0), Some(0), Some(1), Some(1)], "{kind:?}");
        assert_eq!(world.pick(&[]), None, "{kind:?}");
        world.members[0].backend.gate.leave();
        assert_eq!(world.pick(&[]), Some(0), "{kind:?}");
        world.members.push(member(9, 1, true));
        world.sync();
        assert_eq!(world.pick(&[]), Some(2), "{kind:?}: backups may help");
    }
}

#[test]
fn an_empty_pool_has_nobody() {
    for kind in ALL {
        assert_eq!(World::new(kind, Vec::new()).pick(&[]), None);
    }
}

/// State, healthy, ejected, backup, weight, tried.
type Odds = (u8, bool, bool, bool, u32, bool);

fn odds() -> impl Strategy<Value = Vec<Odds>> {
    let one = (0_u8..5, any::<bool>(), any::<bool>(), any::<bool>(), 1_u32..100, any::<bool>());
    prop::collection::vec(one, 0..40)
}

proptest! {
    /// Whatever the pool looks like: somebody is picked exactly when somebody may be, and only such a one.
    #[test]
    fn picks_who_may_be_picked(
        odds in odds(),
        kind in prop::sample::select(&ALL[..]),
        panic in prop::sample::select(&[0.0, 0.5, 1.0][..]),
        seed: u64,
    ) {
        let members: Vec<Member> =
            (1..).zip(&odds).map(|(uid, o)| member(uid, o.4, o.3)).collect();
        let mut tried = Vec::new();
        for (m, o) in members.iter().zip(&odds) {
            let state = [State::Pending, State::Starting, State::Ready, State::Draining, State::Gone];
            if o.2 { Outlier::eject_anyway(&m.backend); }
            m.backend.set_state(state[usize::from(o.0)]);
            m.backend.gate.set_healthy(o.1);
            if o.5 { tried.push(m.backend.uid); }
        }
        let mut world = World::new(kind, members);
        world.panic_threshold = panic;
        world.rng.seed(seed);
        let gates = |backup: bool| {
            let tier = world.members.iter().filter(move |m| m.backup == backup);
            let ready = tier.clone().filter(|m| m.backend.gate.is_ready()).count();
            (ready, tier.filter(|m| m.backend.gate.is_available()).count())
        };
        let panics = |(ready, available): (usize, usize)| (available as f64) < panic * ready as f64;
        let in_panic = [panics(gates(false)), panics(gates(true))];
        let may = |m: &Member| {
            !tried.contains(&m.backend.uid)
                && (m.backend.gate.is_available()
                    || m.backend.gate.is_ready() && in_panic[usize::from(m.backup)])
        };
        let anybody = world.members.iter().any(may);
        let picked = world.pick(&tried);
        prop_assert_eq!(picked.is_some(), anybody);
        if let Some(i) = picked {
            prop_assert!(may(&world.members[i]));
            prop_assert_eq!(world.members[i].backend.gate.in_flight(), 1);
            world.members[i].backend.gate.leave();
        }
        prop_assert!(world.members.iter().all(|m| m.backend.gate.in_flight() == 0));
    }

    /// Over one round of Σ weights, smooth round robin gives each exactly its weight.
    #[test]
    fn round_robin_is_exact(weights in prop::collection::vec(1_u32..20, 1..12)) {
        let mut world = World::new(Balance::RoundRobin, members(&weights));
        let total: u32 = weights.iter().sum();
        let sequence = world.sequence(total as usize);
        for (uid, weight) in (1_u64..).zip(&weights) {
            prop_assert_eq!(sequence.iter().filter(|u| **u == uid).count(), *weight as usize);
        }
    }
}
