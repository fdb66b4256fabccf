//! The golden cases: from states to the odds of each backend, with equal weights unless said.

use std::sync::Arc;

use super::super::tests::{World, member, members};
use super::*;
use crate::config::types::Balance;
use crate::upstream::gate::State;

const SECOND: Micros = 1_000_000;
const PICKS: usize = 6000;

fn world(weights: &[u32]) -> World {
    World::new(Balance::Adaptive, members(weights))
}

/// So many requests in flight at each.
fn load(world: &mut World, in_flight: &[u32]) {
    for (member, wanted) in world.members.iter().zip(in_flight) {
        let gate = &member.backend.gate;
        (0..gate.in_flight()).for_each(|_| gate.leave());
        (0..*wanted).for_each(|_| assert!(gate.enter()));
    }
}

/// Answers that take so long, of each backend, and the look that draws conclusions from them.
fn learn(world: &mut World, took: &[Micros]) {
    for (member, took) in world.members.iter().zip(took) {
        for _ in 0..200 {
            world.peers.answered(&member.backend.learned, 0, *took, world.now);
        }
    }
    look(world);
}

fn look(world: &mut World) {
    let members = world.members.iter().map(|m| (&m.backend.learned, true));
    world.peers.look(&mut Observer::default(), members, world.now);
}

fn factor(world: &World, i: usize) -> f32 {
    world.members[i].backend.learned.standing().factor
}

/// Each one's share of the picks, none of which stays in flight, is within 3 % of this.
#[track_caller]
fn odds(world: &mut World, expected: &[f64]) {
    let shares = world.shares(PICKS);
    for (share, expected) in shares.iter().zip(expected) {
        let exact = *expected == 0.0 || *expected == 1.0;
        let off = (share - expected).abs();
        assert!(if exact { off == 0.0 } else { off < 0.03 }, "{shares:?} for {expected:?}");
    }
}

#[test]
fn golden_1_the_least_loaded_and_ties_at_random() {
    let mut world = world(&[1; 4]);
    load(&mut world, &[2, 1, 1, 3]);
    odds(&mut world, &[0.0, 0.5, 0.5, 0.0]);
}

#[test]
fn golden_2_twice_as_slow_needs_less_than_half_the_load() {
    let mut world = world(&[1; 2]);
    learn(&mut world, &[40_000, 80_000]);
    assert!((factor(&world, 1) - 2.0).abs() < 0.01, "{}", factor(&world, 1));
    load(&mut world, &[3, 0]);
    odds(&mut world, &[0.0, 1.0]);
    load(&mut world, &[1, 0]);
    odds(&mut world, &[1.0, 0.0]);
}

#[test]
fn golden_3_weights() {
    let mut world = world(&[1, 10]);
    load(&mut world, &[0, 8]);
    odds(&mut world, &[0.0, 1.0]);
    load(&mut world, &[0, 10]);
    odds(&mut world, &[1.0, 0.0]);
}

#[test]
fn golden_4_a_due_probe_is_one_request() {
    let mut world = world(&[1; 16]);
    let took: Vec<Micros> = (0..16).map(|i| if i < 14 { 50_000 } else { 800_000 }).collect();
    learn(&mut world, &took);
    assert_eq!((factor(&world, 0), factor(&world, 14), factor(&world, 15)), (1.0, 16.0, 16.0));
    let mut expected = [1.0 / 14.0; 16];
    expected[14..].fill(0.0);
    odds(&mut world, &expected);
    // 14 comes a moment later, so that only 15 is due now.
    world.now += 3 * SECOND;
    let learned = &world.members[14].backend.learned;
    assert!(!learned.standing().is_due(world.now));
    world.now += SECOND;
    let other = learned.standing();
    assert!(learned.claim(other, world.now));
    let retried = world.touch(&[1]).expect("somebody else");
    assert!((2..=14).contains(&retried), "{retried}: a request that failed once is no probe");
    assert_eq!(world.pick(&[]), Some(15));
    odds(&mut world, &expected);
}

#[test]
fn golden_5_who_fails_is_left_alone_until_the_others_are_full() {
    let mut world = world(&[1; 4]);
    let learned = world.members[0].backend.learned.standing();
    assert_eq!(learned.factor, 1.0);
    for _ in 0..2 {
        world.peers.failed(&world.members[0].backend.learned, 1000, world.now);
    }
    load(&mut world, &[0, 10, 10, 10]);
    odds(&mut world, &[0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]);
    load(&mut world, &[0, 40, 40, 40]);
    odds(&mut world, &[1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn golden_6_a_full_one_is_out_however_slow_the_other_is() {
    let mut world = world(&[1; 2]);
    learn(&mut world, &[40_000, 80_000]);
    world.max_in_flight = 4;
    load(&mut world, &[4, 4]);
    assert_eq!(world.pick(&[]), None);
    load(&mut world, &[4, 3]);
    odds(&mut world, &[0.0, 1.0]);
}

#[test]
fn golden_8_idle_backends_within_the_band_are_equal() {
    let mut world = world(&[1; 3]);
    set_factors(&mut world, &[1.2, 1.0, 1.3]);
    odds(&mut world, &[0.5, 0.5, 0.0]);
    let mut world = self::world(&[1; 2]);
    set_factors(&mut world, &[1.2, 1.0]);
    load(&mut world, &[1, 1]);
    odds(&mut world, &[0.0, 1.0]);
}

/// Brings backends to these factors by latency: they are measured against enough others that answer in
/// 50 ms.
fn set_factors(world: &mut World, factors: &[f32]) {
    let mut took: Vec<Micros> =
        factors.iter().map(|f| (50_000.0 * f.sqrt()).round() as Micros).collect();
    took.resize(factors.len() + 8, 50_000);
    let pool = World::new(Balance::Adaptive, members(&vec![1; took.len()]));
    let mut pool = World { peers: std::mem::replace(&mut world.peers, pool.peers), ..pool };
    for (mine, theirs) in world.members.iter().zip(&mut pool.members) {
        *theirs = mine.clone();
    }
    learn(&mut pool, &took);
    for (i, factor) in factors.iter().enumerate() {
        let got = pool.members[i].backend.learned.standing().factor;
        assert!((got - factor).abs() < 0.005, "{got} for {factor}");
    }
    world.peers = pool.peers;
    // No look of this world's own, which has too few to measure against.
    assert!(world.peers.is_due(world.now, world.members.len()));
}

#[test]
fn one_that_ramps_gets_its_share_when_idle_and_less_load_when_busy() {
    let mut world = world(&[1; 4]);
    world.members[0].backend.ramp(world.now);
    // A fifth of the way: a fifth of what each of the others gets.
    world.now += 2 * SECOND;
    odds(&mut world, &[0.05, 0.317, 0.317, 0.317]);
    load(&mut world, &[1, 8, 8, 8]);
    odds(&mut world, &[0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]);
    load(&mut world, &[1, 10, 10, 10]);
    odds(&mut world, &[1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn tunnels_count_for_a_tenth() {
    let mut world = world(&[1; 2]);
    load(&mut world, &[12, 2]);
    let backend = Arc::clone(&world.members[0].backend);
    let tunnels: Vec<_> = (0..12).map(|_| backend.tunnel()).collect();
    odds(&mut world, &[1.0, 0.0]);
    drop(tunnels);
    odds(&mut world, &[0.0, 1.0]);
}

#[test]
fn a_large_pool_is_sampled_until_something_good_is_found() {
    let mut world = world(&[1; 200]);
    let took: Vec<Micros> = (0..200).map(|i| if i % 4 == 0 { 800_000 } else { 50_000 }).collect();
    learn(&mut world, &took);
    let shares = world.shares(PICKS);
    assert!(shares.iter().step_by(4).all(|share| *share == 0.0), "{shares:?}");
    assert!(shares.iter().enumerate().all(|(i, share)| i % 4 == 0 || *share > 0.0), "{shares:?}");
}

#[test]
fn the_few_that_are_available_among_many_are_found() {
    let mut world = world(&[1; 300]);
    world.members[3..].iter().for_each(|m| m.backend.set_state(State::Draining));
    let mut expected = vec![0.0; 300];
    expected[..3].fill(1.0 / 3.0);
    odds(&mut world, &expected);
}

#[test]
fn a_member_that_joins_is_taken_for_as_good_as_the_others() {
    let mut world = world(&[1; 3]);
    learn(&mut world, &[50_000, 52_000, 48_000]);
    world.members.push(member(9, 1, false));
    world.balancer.sync_members(&world.members);
    odds(&mut world, &[0.25; 4]);
}
