//! Picks of the less busy of two.

use super::*;

#[test]
fn random_takes_the_less_busy_of_two_by_weight() {
    let mut world = World::new(Balance::Random, members(&[1, 1]));
    for _ in 0..10 {
        world.pick(&[]).expect("available");
    }
    let in_flight = |world: &World, i: usize| world.members[i].backend.gate.in_flight();
    assert_eq!((in_flight(&world, 0), in_flight(&world, 1)), (5, 5), "of two it sees both");
    let mut world = World::new(Balance::Random, members(&[30, 10, 10, 10]));
    for _ in 0..600 {
        world.pick(&[]).expect("available");
    }
    assert!((290..=310).contains(&in_flight(&world, 0)), "{}", in_flight(&world, 0));
}

#[test]
fn random_gives_ties_to_who_was_picked_less() {
    let mut world = World::new(Balance::Random, members(&[1, 1]));
    // One after the other: nobody has a request in flight when the next is picked.
    assert!(world.sequence(20).chunks(2).all(|pair| pair[0] != pair[1]));
    let mut world = World::new(Balance::Random, members(&[3, 1, 2]));
    let shares = world.shares(6000);
    for (share, due) in shares.iter().zip([3.0, 1.0, 2.0]) {
        assert!((share - due / 6.0).abs() < 0.04, "{shares:?}");
    }
    // What is past is forgotten.
    let mut world = World::new(Balance::Random, members(&[1, 1]));
    let first = world.touch(&[]);
    world.touch(&[first.expect("available") % 2 + 1]);
    world.now += 60 * SECOND;
    let next = world.touch(&[]).expect("available");
    assert_eq!(world.touch(&[]), Some(next % 2 + 1));
}

#[test]
fn random_finds_the_few_available_among_many_and_by_their_weight() {
    let mut weights = [1; 1000];
    weights[..3].copy_from_slice(&[2, 1, 1]);
    let mut world = World::new(Balance::Random, members(&weights));
    for m in &world.members[3..] {
        m.backend.gate.set_healthy(false);
    }
    let shares = world.shares(4000);
    assert!((0.42..0.58).contains(&shares[0]), "{:?}", &shares[..3]);
    assert!((0.2..0.3).contains(&shares[1]), "{:?}", &shares[..3]);
}
