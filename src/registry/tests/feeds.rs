//! Backends that feeds bring and take away.

use super::*;
use crate::config::types::{Discovery, DiscoveryKind};
use crate::discovery::{Feed, Found};
use crate::upstream::backend::Source;

/// A service that follows a source.
fn following() -> World {
    let kind = DiscoveryKind::Srv { name: "app.test".into() };
    let mut with = (*service(&[])).clone();
    with.discovery = Some(Discovery { kind, allow: Vec::new() });
    let mut world = World::new();
    world.registry.configure(&Arc::new(with));
    world
}

/// A service with a name that is looked up.
fn with_name(id: &str, port: u16) -> Arc<Service> {
    let mut with = (*service(&[(id, port)])).clone();
    with.backends[0].host = "app.test".into();
    Arc::new(with)
}

fn found(last: u8, weight: u32) -> Found {
    Found { weight, ..Found::at(([10, 0, 0, last], 80).into()) }
}

#[test]
fn what_a_feed_no_longer_names_drains_and_may_come_back() {
    let mut world = following();
    let supply = |world: &mut World, found: &[Found]| {
        world.registry.supply("app", &Feed::Discovery, Source::Dns, found)
    };
    let first = supply(&mut world, &[found(1, 1), found(2, 1)]);
    assert_eq!((first.joined, first.leaving.len()), (2, 0));
    let (one, two) = (world.backend("10.0.0.1-80"), world.backend("10.0.0.2-80"));
    assert_eq!(one.gate.state(), State::Starting, "it waits for its first check");
    world.pass("10.0.0.1-80");
    world.pass("10.0.0.2-80");

    let second = supply(&mut world, &[found(1, 5)]);
    assert!(matches!(&second.changes[..], [Change::Weighted { .. }, Change::Draining { .. }]));
    assert_eq!((two.gate.state(), second.leaving.len()), (State::Draining, 1));
    assert_eq!(world.registry.fed("app", &Feed::Discovery), 1);
    let undrained = world.registry.undrain("app", "10.0.0.2-80", DrainedBy::Operator);
    assert_eq!(undrained.err(), Some(DrainError::Stopping), "nobody names it");

    let back = supply(&mut world, &[found(1, 5), found(2, 1)]);
    assert!(matches!(&back.changes[..], [Change::Undrained { .. }]), "{:?}", back.changes);
    assert!(world.registry.left(&two).is_empty() && two.gate.is_available());

    supply(&mut world, &[found(1, 5)]);
    assert!(matches!(&world.registry.left(&two)[..], [Change::Gone { .. }]));
    assert!(world.registry.left(&two).is_empty(), "once");
}

#[test]
fn what_is_replaced_serves_until_a_successor_is_ready() {
    let mut world = following();
    let supply = |world: &mut World, found: &[Found]| {
        world.registry.supply("app", &Feed::Discovery, Source::Dns, found)
    };
    supply(&mut world, &[found(1, 1)]);
    world.pass("10.0.0.1-80");
    let one = world.backend("10.0.0.1-80");
    assert_eq!(supply(&mut world, &[found(2, 1)]).leaving.len(), 1);
    assert!(one.gate.is_available());
    assert_eq!(world.registry.is_needed(&one), Some(true));
    world.pass("10.0.0.2-80");
    assert_eq!(world.registry.is_needed(&one), Some(false));
    assert!(matches!(&world.registry.leave(&one)[..], [Change::Draining { .. }]));
    assert!(matches!(&world.registry.left(&one)[..], [Change::Gone { .. }]));
    assert_eq!(world.registry.is_needed(&one), None);
    // Of none there is nothing to wait for.
    let two = world.backend("10.0.0.2-80");
    supply(&mut world, &[]);
    assert_eq!(two.gate.state(), State::Draining);
}

#[test]
fn an_operators_drain_outlives_what_a_feed_says() {
    let mut world = following();
    let both = [found(1, 1), found(2, 1)];
    let supply = |world: &mut World, found: &[Found]| {
        world.registry.supply("app", &Feed::Discovery, Source::Dns, found)
    };
    supply(&mut world, &both);
    world.pass("10.0.0.2-80");
    world.registry.drain("app", "10.0.0.2-80", DrainedBy::Operator).expect("drained");
    assert_eq!(supply(&mut world, &both[..1]).leaving.len(), 1);
    supply(&mut world, &both);
    assert_eq!(world.backend("10.0.0.2-80").gate.state(), State::Draining);
    world.registry.undrain("app", "10.0.0.2-80", DrainedBy::Operator).expect("undrained");
}

#[test]
fn a_names_first_addresses_are_up_and_one_entry_stands_for_none() {
    let mut world = World::new();
    world.registry.configure(&with_name("x", 80));
    let feed = Feed::Name("x".into());
    world.registry.unfed("app", &feed, "no nameserver");
    let pool = world.registry.pool("app").expect("configured");
    let shown: Vec<_> = pool.entries().map(|e| (&*e.id, e.last_error.as_deref())).collect();
    assert_eq!(shown, [("x", Some("no nameserver"))]);

    let named = |last: u8| Found { id: format!("x@10.0.0.{last}").into(), ..found(last, 1) };
    world.registry.supply("app", &feed, Source::Fixed, &[named(1)]);
    let one = world.backend("x@10.0.0.1");
    assert!(one.gate.is_available(), "as a number in its place would be");
    assert_eq!(world.view().backends.len(), 1);
    assert!(world.registry.pool("app").is_some_and(|pool| pool.get("x").is_none()));
    // Settings of the name are those of its addresses.
    let mut heavier = (*with_name("x", 80)).clone();
    heavier.backends[0].weight = 9;
    world.registry.configure(&Arc::new(heavier));
    assert_eq!(world.view().backends[0].weight, 9);

    let gone = world.registry.supply("app", &feed, Source::Fixed, &[]);
    assert_eq!(gone.leaving.len(), 1);
    world.registry.left(&one);
    assert!(world.registry.pool("app").is_some_and(|pool| pool.get("x").is_some()));
    // A number in the place of the name.
    let changes = world.registry.configure(&service(&[("y", 80)]));
    assert!(matches!(&changes[..], [Change::Gone { id, .. }] if **id == *"x"), "{changes:?}");
}

#[test]
fn an_id_that_another_has_is_left_out() {
    let mut world = World::new();
    world.registry.configure(&service(&[("10.0.0.1-80", 80)]));
    let both = [found(1, 1), found(2, 1)];
    let supplied = world.registry.supply("app", &Feed::Admin, Source::Admin, &both);
    assert_eq!((supplied.joined, supplied.clashes), (1, vec!["10.0.0.1-80".into()]));
}

#[test]
fn the_last_word_of_what_is_no_longer_followed_is_not_heard() {
    let mut world = World::new();
    for feed in [Feed::Discovery, Feed::Name("x".into())] {
        let supplied = world.registry.supply("app", &feed, Source::Dns, &[found(1, 1)]);
        assert!(supplied.changes.is_empty());
    }
    assert!(world.view().backends.is_empty());
}
