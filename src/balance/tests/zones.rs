//! Picks where some backends are in the own zone and some are not.

use super::*;

/// The first so many in the own zone, the others elsewhere.
fn zoned(kind: Balance, own: usize, others: usize) -> World {
    let mut members = members(&vec![1; own + others]);
    members[own..].iter_mut().for_each(|m| m.near = false);
    World::new(kind, members)
}

/// The share of the first so many members.
fn own_share(world: &mut World, own: usize, picks: usize) -> f64 {
    // Counted anew.
    world.now += SECOND;
    world.shares(picks)[..own].iter().sum()
}

const RULES: [Balance; 5] = [
    Balance::Adaptive,
    Balance::RoundRobin,
    Balance::LeastConnections,
    Balance::Random,
    Balance::P2cEwma,
];

#[test]
fn requests_stay_in_the_zone_while_it_is_well_and_leave_by_what_is_missing() {
    for kind in RULES {
        let mut world = zoned(kind, 4, 4);
        assert_eq!(own_share(&mut world, 4, 500), 1.0, "{kind:?}");
        for (sick, share) in [(1, 1.0), (2, 0.7), (3, 0.35), (4, 0.0)] {
            world.members[sick - 1].backend.gate.set_healthy(false);
            let got = own_share(&mut world, 4, 2000);
            assert!((got - share).abs() < 0.04, "{kind:?}: {got} with {sick} sick");
        }
    }
}

#[test]
fn a_zone_that_is_full_spills_at_once() {
    for kind in RULES {
        let mut world = zoned(kind, 2, 2);
        world.max_in_flight = 3;
        let picked: Vec<_> = (0..12).map(|_| world.pick(&[]).expect("there is room")).collect();
        assert!(picked[..6].iter().all(|i| *i < 2), "{kind:?}: {picked:?}");
        assert!(picked[6..].iter().all(|i| *i >= 2), "{kind:?}: {picked:?}");
        assert_eq!(world.pick(&[]), None, "{kind:?}");
    }
}

#[test]
fn a_crowd_leaves_until_the_own_zone_has_twice_as_many_and_two() {
    let mut world = zoned(Balance::LeastConnections, 2, 4);
    for _ in 0..600 {
        // Nobody finishes, and all is counted before each.
        world.now += SECOND;
        world.pick(&[]).expect("available");
    }
    let load = |of: std::ops::Range<usize>| {
        let n = of.len() as f64;
        of.map(|i| f64::from(world.members[i].backend.gate.in_flight())).sum::<f64>() / n
    };
    let (own, others) = (load(0..2), load(2..6));
    // At the bound all stays, at twice the bound half does: here it settles between the two.
    let ratio = own / (2.0 * others + 2.0);
    assert!((0.8..1.6).contains(&ratio), "{own} each here, {others} each elsewhere");
}

#[test]
fn a_retry_goes_anywhere() {
    let mut world = zoned(Balance::Random, 2, 6);
    let mut own = 0;
    for _ in 0..2000 {
        own += u32::from(world.touch(&[1]).is_some_and(|uid| uid == 2));
    }
    let share = f64::from(own) / 2000.0;
    assert!((0.2..0.3).contains(&share), "{share} for two of eight");
    assert_eq!(world.touch(&[2, 3, 4, 5, 6, 7, 8]), Some(1));
}

#[test]
fn keys_and_clients_have_their_backend_whatever_the_zone() {
    for kind in [Balance::Hash, Balance::IpHash, Balance::NginxIpHash] {
        let mut near = World::new(kind, members(&[1; 6]));
        let mut world = zoned(kind, 2, 4);
        for i in 0..300_u32 {
            near.client = IpAddr::from((0x0a00_0000 + i * 256).to_be_bytes());
            world.client = near.client;
            assert_eq!(near.touch(&[]), world.touch(&[]), "{kind:?}");
        }
    }
}

#[test]
fn backups_help_only_when_both_zones_are_down_and_panic_looks_at_both() {
    let mut world = zoned(Balance::RoundRobin, 1, 1);
    world.members.push(member(9, 1, true));
    world.sync();
    world.members[0].backend.gate.set_healthy(false);
    world.now += SECOND;
    assert_eq!(world.sequence(2), [2, 2]);
    world.panic_threshold = 0.4;
    assert_eq!(world.sequence(2), [2, 2], "half of both are healthy");
    world.members[1].backend.gate.set_healthy(false);
    assert_eq!(world.sequence(2), [9, 9]);
}
