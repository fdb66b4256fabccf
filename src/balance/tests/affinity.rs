//! Picks by a key or an address: who has it, who gets it when that one cannot, and who keeps it meanwhile.

use super::*;

/// To whom each of so many clients is sent, one at a time.
fn map(world: &mut World, clients: u32) -> Vec<u64> {
    let mut of = |i: u32| {
        world.client = IpAddr::from((0x0a00_0000 + i).to_be_bytes());
        world.touch(&[]).expect("available")
    };
    (0..clients).map(&mut of).collect()
}

#[test]
fn ip_hash_is_steady_weighted_and_moves_only_the_clients_of_who_leaves() {
    let mut world = World::new(Balance::IpHash, members(&[1, 2, 1]));
    let before = map(&mut world, 8000);
    assert_eq!(before, map(&mut world, 8000));
    let share = |uid| before.iter().filter(|u| **u == uid).count() as f64 / 8000.0;
    assert!((0.47..0.53).contains(&share(2)), "{}", share(2));
    assert!((0.22..0.28).contains(&share(1)), "{}", share(1));

    world.members[0].backend.gate.set_healthy(false);
    let after = map(&mut world, 8000);
    assert!(before.iter().zip(&after).all(|(b, a)| *b == *a || *b == 1));
    let gone: Vec<Member> = world.members.drain(1..).collect();
    let mut left = World::new(Balance::IpHash, gone);
    assert_eq!(after, map(&mut left, 8000), "unhealthy or gone is the same to its clients");
}

#[test]
fn hash_moves_only_the_keys_of_who_fails_and_spreads_them() {
    let mut world = World::new(Balance::Hash, members(&[1; 10]));
    let before = map(&mut world, 20_000);
    assert_eq!(before, map(&mut world, 20_000));
    world.members[0].backend.gate.set_healthy(false);
    let after = map(&mut world, 20_000);
    assert!(before.iter().zip(&after).all(|(b, a)| *b == *a || *b == 1));
    let taken_over =
        |uid| before.iter().zip(&after).filter(|(b, a)| **b == 1 && **a == uid).count();
    let mine = before.iter().filter(|uid| **uid == 1).count();
    for uid in 2..=10 {
        let share = taken_over(uid) as f64 / mine as f64;
        assert!((0.05..0.19).contains(&share), "{share} of them went to {uid}");
    }
    // A retry goes where the keys of one that fails would go, and the key comes home afterwards.
    world.members[0].backend.gate.set_healthy(true);
    for (i, uid) in after.iter().enumerate().filter(|(i, _)| before[*i] == 1) {
        world.client = IpAddr::from((0x0a00_0000 + i as u32).to_be_bytes());
        assert_eq!(world.touch(&[1]), Some(*uid));
        assert_eq!(world.touch(&[]), Some(1));
    }
}

#[test]
fn hash_holds_the_backend_of_a_popular_key_to_its_bound() {
    for (bound, weights) in [(1.25, [1; 8]), (2.0, [1, 1, 1, 1, 2, 2, 2, 2])] {
        let mut world = World::new(Balance::Hash, members(&weights));
        world.hash_balance = bound;
        let total: u32 = weights.iter().sum();
        for picks in 1..=400_u32 {
            let i = world.pick(&[]).expect("available");
            let in_flight = f64::from(world.members[i].backend.gate.in_flight());
            let share = f64::from(world.members[i].weight) / f64::from(total);
            let most = (bound * f64::from(picks) * share).ceil();
            assert!(in_flight <= most, "{in_flight} of {picks}, {most} allowed");
        }
        let busiest = world.members.iter().map(|m| m.backend.gate.in_flight()).max();
        assert!(busiest.is_some_and(|n| f64::from(n) >= 400.0 / 8.0 * bound), "it fills the bound");
    }
    let mut world = World::new(Balance::Hash, members(&[1; 8]));
    world.hash_balance = 0.0;
    let first = world.pick(&[]);
    assert!((0..100).all(|_| world.pick(&[]) == first), "0 is no bound");
}

#[test]
fn hash_finds_the_few_available_among_a_thousand_and_always_the_same() {
    let mut world = World::new(Balance::Hash, members(&[1; 1000]));
    for m in &world.members[3..] {
        m.backend.gate.set_healthy(false);
    }
    let before = map(&mut world, 3000);
    assert_eq!(before, map(&mut world, 3000));
    for uid in 1..=3 {
        let share = before.iter().filter(|u| **u == uid).count() as f64 / 3000.0;
        assert!((0.28..0.39).contains(&share), "{share}");
    }
}

#[test]
fn hash_spreads_requests_without_a_key() {
    let mut world = World::new(Balance::Hash, members(&[1; 4]));
    world.key = Some(None);
    let shares = world.shares(4000);
    assert!(shares.iter().all(|s| (0.22..0.28).contains(s)), "{shares:?}");
}

#[test]
fn nginx_ip_hash_is_steady_and_goes_round_when_nobody_is_found() {
    let mut world = World::new(Balance::NginxIpHash, members(&[1, 2, 1]));
    let before = map(&mut world, 8000);
    assert!(before.chunks(256).all(|net| net.iter().all(|uid| *uid == net[0])), "a /24 is one");
    // 1 of 1000 weights is left: twenty turns mostly miss it.
    let mut world = World::new(Balance::NginxIpHash, members(&[500, 500, 1]));
    for m in &world.members[..2] {
        m.backend.gate.set_healthy(false);
    }
    assert_eq!(map(&mut world, 1000), [3; 1000]);
}

/// A world whose next picks are of the session that the member at an index has.
fn in_session(kind: Balance, members: Vec<Member>, at: usize) -> World {
    let mut world = World::new(kind, members);
    let (hour, key) = (Duration::from_secs(3600), b"sixteen bytes or more");
    let sessions = Sessions::new("app".into(), "tg", hour, key, &world.members);
    let now = std::time::SystemTime::UNIX_EPOCH;
    let cookie = sessions.write(&world.members[at].backend.id, now, false);
    let value = cookie.as_bytes()[3..].split(|byte| *byte == b';').next().expect("a value");
    world.session = sessions.read(value, now).map(|session| session.handle);
    world.sessions = Some(sessions);
    world
}

#[test]
fn a_session_stays_with_its_backend_whatever_the_rule_is() {
    for kind in ALL {
        let mut world = in_session(kind, members(&[1, 1, 9]), 1);
        assert!((0..20).all(|_| world.pick(&[]) == Some(1)), "{kind:?}: busy as it is");
        assert_ne!(world.touch(&[2]), Some(2), "{kind:?}: a retry goes elsewhere");
        world.max_in_flight = 20;
        assert_ne!(world.touch(&[]), Some(2), "{kind:?}: it is full");
        world.max_in_flight = 0;
        Outlier::eject_anyway(&world.members[1].backend);
        assert!(world.touch(&[]).is_some_and(|uid| uid != 2), "{kind:?}");
        world.members[1].backend.set_state(State::Draining);
        assert!(world.touch(&[]).is_some_and(|uid| uid != 2), "{kind:?}");
    }
}

#[test]
fn a_backup_keeps_a_session_only_while_it_is_needed() {
    let mut world = in_session(
        Balance::RoundRobin,
        vec![member(1, 1, false), member(2, 1, true), member(3, 1, true)],
        2,
    );
    assert_eq!(world.sequence(2), [1, 1]);
    world.members[0].backend.gate.set_healthy(false);
    world.now += SECOND;
    assert_eq!(world.sequence(3), [3, 3, 3]);
}

#[test]
fn a_session_of_one_who_is_gone_goes_by_the_rule() {
    let mut world = in_session(Balance::RoundRobin, members(&[1, 1]), 1);
    world.session = world.session.map(|handle| !handle);
    assert_eq!(world.sequence(3), [1, 2, 1]);
}
