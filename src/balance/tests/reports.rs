//! Picks among backends that say how busy they are.

use super::*;

/// Backends that have reported this for a while, and do so until now.
fn reporting(kind: Balance, loads: &[f32]) -> World {
    let mut world = World::new(kind, members(&vec![1; loads.len()]));
    world.load_report = true;
    world.now += 20 * SECOND;
    for at in [world.now - 15 * SECOND, world.now] {
        for (m, load) in world.members.iter().zip(loads) {
            m.backend.reported.record(*load, at);
        }
    }
    world
}

fn in_flight(world: &World) -> Vec<u32> {
    world.members.iter().map(|m| m.backend.gate.in_flight()).collect()
}

#[test]
fn who_is_busier_than_its_peers_gets_less_and_who_is_idler_no_more() {
    for kind in [Balance::Adaptive, Balance::P2cEwma] {
        // Means of 0.4; costs 1, 1 and (0.8 + 0.1) / (0.4 + 0.1).
        let mut world = reporting(kind, &[0.2, 0.2, 0.8]);
        for _ in 0..460 {
            world.pick(&[]).expect("available");
        }
        let n = in_flight(&world);
        assert!(n[0].abs_diff(n[1]) <= 2, "{kind:?}: {n:?}");
        let ratio = f64::from(n[0]) / f64::from(n[2]);
        assert!((1.7..1.9).contains(&ratio), "{kind:?}: {n:?}");
    }
}

#[test]
fn who_is_avoided_for_its_last_word_is_asked_again() {
    for kind in [Balance::Adaptive, Balance::P2cEwma] {
        let mut world = reporting(kind, &[0.1, 0.1, 5.0]);
        assert_eq!(world.shares(300)[2], 0.0, "{kind:?}: it says that it is overrun");
        for _ in 0..40 {
            world.now += SECOND;
            for m in &world.members[..2] {
                m.backend.reported.record(0.1, world.now);
            }
        }
        let share = world.shares(300)[2];
        let least = if kind == Balance::Adaptive { 0.25 } else { 0.0 };
        assert!(share >= least, "{kind:?}: {share}");
    }
}

#[test]
fn reports_count_only_where_they_are_asked_for_and_from_two_on() {
    let mut world = reporting(Balance::Adaptive, &[0.1, 0.9]);
    world.load_report = false;
    let shares = world.shares(2000);
    assert!((0.45..0.55).contains(&shares[1]), "{shares:?}");
    let mut world = reporting(Balance::Adaptive, &[0.9]);
    world.members.push(member(2, 1, false));
    world.sync();
    let shares = world.shares(2000);
    assert!((0.45..0.55).contains(&shares[0]), "the mean of one is itself: {shares:?}");
}

#[test]
fn calm_pools_stay_even() {
    let mut world = reporting(Balance::Adaptive, &[0.01, 0.02, 0.03]);
    let shares = world.shares(3000);
    assert!(shares.iter().all(|s| (0.3..0.37).contains(s)), "{shares:?}");
}
