//! What becomes of a service whose proxy heeds the limits, in simulated time.

mod world;

use world::{Backend, World};

use super::Seen;

fn pool(n: u64, slots: u32, service: f64) -> Vec<Backend> {
    (0..n).map(|uid| Backend::new(uid, slots, service)).collect()
}

/// Backends, slots, seconds of a request, and whether these vary.
type Shape = (u64, u32, f64, bool);

const SHAPES: [Shape; 5] = [
    (10, 5, 0.04, true),
    (10, 5, 0.04, false),
    (10, 1, 0.04, true),
    (10, 2, 0.005, true),
    (4, 50, 0.1, true),
];

/// In calm for 20 s at half of what it can do; the world, and the p99 of then.
fn in_calm((n, slots, service, random): Shape, seed: u64) -> (World, f64) {
    let mut backends = pool(n, slots, service);
    backends.iter_mut().for_each(|backend| backend.random = random);
    let mut world = World::new(backends, 0.0, seed);
    world.load = 0.5 * world.capacity();
    world.run(20.0);
    let p99 = world.quantile(0, 0.99);
    assert!(!world.learner.is_limited() && world.shed == 0);
    (world, p99)
}

#[test]
fn an_overload_costs_no_capacity_and_nobody_waits_long() {
    for shape in SHAPES {
        for over in [1.3, 2.0, 5.0] {
            let (mut world, calm) = in_calm(shape, 7);
            world.load = over * world.capacity();
            world.run(5.0);
            assert!(world.learner.is_limited(), "{shape:?} {over}");
            let from = world.took.len();
            let answered = world.run(30.0) / world.capacity();
            let p99 = world.quantile(from, 0.99);
            assert!(answered >= 0.95, "{shape:?} {over}: {answered}");
            assert!(p99 <= 2.0 * calm + world.patience, "{shape:?} {over}: {p99} after {calm}");
        }
    }
}

#[test]
fn what_is_let_in_follows_backends_that_come_and_go() {
    for shape in SHAPES {
        let (mut world, _) = in_calm(shape, 3);
        world.load = 1.3 * world.capacity();
        world.run(15.0);
        let half = world.backends.len() / 2;
        for active in [false, true] {
            world.backends.iter_mut().skip(half).for_each(|backend| backend.active = active);
            // At the next tick.
            world.run(1.0);
            let answered = world.run(15.0) / world.capacity();
            assert!(answered >= 0.88, "{shape:?} {active}: {answered}");
        }
    }
}

/// Who waits newest first and briefly, as in our queue, does not keep a place free for long; means of many runs.
#[test]
fn few_places_stay_free_however_much_comes() {
    const RUNS: u64 = 40;
    for shape in [(10, 2, 0.07, true), (10, 1, 0.05, true), (10, 8, 0.1, true)] {
        let mut sums = [0.0; 5];
        for seed in 0..RUNS {
            let (mut world, _) = in_calm(shape, seed);
            world.patience = 0.012;
            let all = world.capacity();
            for (at, over) in [1.3, 2.0, 5.0].into_iter().enumerate() {
                world.load = over * all;
                sums[at] += world.run(5.0) / all;
            }
            for (at, active) in [(3, false), (4, true)] {
                let other = world.backends.iter_mut().skip(5);
                other.for_each(|backend| backend.active = active);
                world.load = 0.5 * world.capacity();
                world.run(3.0);
                world.load = 1.3 * world.capacity();
                sums[at] += world.run(5.0) / world.capacity();
            }
        }
        let answered = sums.map(|sum| sum / RUNS as f64);
        assert!(answered.iter().all(|share| *share >= 0.95), "{shape:?}: {answered:?}");
    }
}

#[test]
fn a_limit_that_became_too_large_shrinks() {
    let (mut world, _) = in_calm((10, 8, 0.1, true), 5);
    world.load = 2.0 * world.capacity();
    world.run(15.0);
    let before = world.mean_limit();
    // Half of what each can do at once is gone, and what it takes is the same.
    world.backends.iter_mut().for_each(|backend| backend.slots = 4);
    world.run(60.0);
    assert!(world.mean_limit() <= 0.8 * before, "{} after {before}", world.mean_limit());
    let from = world.took.len();
    assert!(world.run(15.0) >= 0.95 * world.capacity());
    // With what is waited in our queue; the limit of before would make it 0.37.
    assert!(world.quantile(from, 0.5) <= 0.3, "{}", world.quantile(from, 0.5));
}

#[test]
fn nothing_is_limited_while_backends_keep_up() {
    for load in [0.3, 0.6, 0.8, 0.9] {
        for seed in 0..5 {
            let mut world = World::new(pool(10, 5, 0.04), load * 1250.0, seed);
            world.run(60.0);
            assert!(!world.learner.is_limited() && world.shed == 0, "{load} {seed}");
        }
    }
}

#[test]
fn requests_that_take_longer_are_no_overload() {
    let mut refused = 0;
    for (n, service, load) in [(1, 2.0, 50.0), (4, 5.0, 100.0), (4, 0.5, 400.0)] {
        for seed in 0..8 {
            let mut world = World::new(pool(n, 1_000_000, 0.01), load, seed);
            world.run(30.0);
            // What the backends themselves wait for has become slow. They take as much as comes.
            world.backends.iter_mut().for_each(|backend| backend.service = service);
            world.run(90.0);
            let shed = world.shed;
            world.run(15.0);
            let late = (world.shed - shed) as f64 / (15.0 * load);
            assert!(late <= 0.02, "{n} x {service} s, seed {seed}: {late}");
            refused += u32::from(shed > 0);
        }
    }
    // Where it was taken for one, it was found out.
    assert!(refused <= 3, "{refused} of 24");
}

#[test]
fn a_limit_without_a_reason_grows_away() {
    let (mut world, _) = in_calm((10, 5, 0.04, true), 1);
    world.load = 1.3 * world.capacity();
    world.run(10.0);
    assert!(world.learner.is_limited());
    let before = world.mean_limit();
    // From now on they could take any number.
    world.backends.iter_mut().for_each(|backend| backend.slots = 1_000_000);
    world.run(60.0);
    let shed = world.shed;
    world.run(30.0);
    assert!(world.mean_limit() > before || world.mean_limit() == 0.0, "{}", world.mean_limit());
    assert_eq!(world.shed, shed, "nothing is shed any more");
}

#[test]
fn a_minute_after_an_overload_nothing_is_limited() {
    let (mut world, _) = in_calm((10, 5, 0.04, true), 2);
    world.load = 2.0 * world.capacity();
    world.run(10.0);
    assert!(world.learner.is_limited() && world.limits.rate.is_finite());
    world.load = 0.5 * world.capacity();
    world.run(55.0);
    assert!(world.learner.is_limited());
    world.run(15.0);
    assert!(!world.learner.is_limited() && world.limits.rate.is_infinite());
    assert!(world.limits.of.iter().all(|limit| limit.most == 0));
}

#[test]
fn what_never_ends_does_not_use_up_the_limit() {
    let (mut world, _) = in_calm((4, 5, 0.04, true), 2);
    world.load = 1.3 * world.capacity();
    world.run(10.0);
    let limit = world.mean_limit();
    let mut answered = 0.0;
    for _ in 0..30 {
        // Each gets another stream, which is answered at once and stays.
        world.backends.iter_mut().for_each(|backend| backend.streams += 1);
        answered += world.run(1.0) / world.capacity() / 30.0;
    }
    assert!(world.mean_limit() >= limit + 20.0, "{limit} then {}", world.mean_limit());
    assert!(answered > 0.75, "{answered}");
}

#[test]
fn the_rate_never_rises_while_limits_bind_and_no_backend_answers_more() {
    let mut learner = super::Learner::default();
    let seen = |done: u64, time: f64, in_flight: u32, near: u64| Seen {
        uid: 1,
        done,
        time: done as f64 * time,
        low: u64::from(in_flight < 2) * done,
        low_time: if in_flight < 2 { done as f64 * time } else { 0.0 },
        picks: done,
        near,
        in_flight,
        ramp: 1.0,
        ..Seen::default()
    };
    for _ in 0..40 {
        learner.tick(&[seen(10, 0.01, 1, 0)], 0.1, false, 0.1);
    }
    for n in 1..40 {
        // The backend answers four times as much as in calm, and more and more wait.
        learner.tick(&[seen(40, 0.02 * f64::from(n), 8 * n, 0)], 0.1, true, 0.1);
        if learner.is_limited() {
            break;
        }
    }
    assert!(learner.is_limited());
    let mut before = f64::INFINITY;
    for tick in 0..200 {
        // Whatever is tried, it answers the same.
        let limits = learner.tick(&[seen(40, 0.05, 20, 40)], 0.1, true, 0.1);
        let capacity = limits.capacity.expect("it is limited");
        assert!(capacity <= before * 1.000_001, "{capacity} after {before} in tick {tick}");
        before = capacity;
    }
    assert!((before - 400.0).abs() < 20.0, "{before}");
}

#[test]
fn one_that_is_there_from_the_start_is_seen_as_well() {
    for shape in SHAPES.into_iter().chain([(2, 2, 0.04, false), (2, 2, 0.04, true)]) {
        let (n, slots, service, random) = shape;
        let mut backends = pool(n, slots, service);
        backends.iter_mut().for_each(|backend| backend.random = random);
        let mut world = World::new(backends, 0.0, 5);
        world.load = 4.0 * world.capacity();
        world.run(2.0);
        assert!(world.learner.is_limited(), "{shape:?}");
        world.run(15.0);
        let answered = world.run(15.0) / world.capacity();
        let (limit, slots) = (world.mean_limit(), f64::from(slots));
        assert!(answered >= 0.9, "{shape:?}: {answered} at {limit}");
        assert!(limit <= 2.0 * slots + 2.0, "{shape:?}: {limit}");
    }
}

#[test]
fn an_overload_is_seen_within_seconds() {
    for (n, slots, service) in [(10, 2, 0.07), (10, 1, 0.07), (3, 2, 0.07), (1, 4, 0.1)] {
        for over in [1.3, 2.0] {
            for seed in 0..20 {
                let (mut world, _) = in_calm((n, slots, service, true), seed);
                world.load = over * world.capacity();
                while !world.learner.is_limited() {
                    world.run(0.5);
                    assert!(world.now < 30.0, "{n} x {slots} x {service} s, {over}, seed {seed}");
                }
            }
        }
    }
}

/// A process that another one has handed over to: in the middle of it, but it was told what calm is.
#[test]
fn one_that_is_there_from_the_start_is_seen_by_who_was_told_of_calm() {
    let mut missed = Vec::new();
    for (n, slots, service) in [(10, 2, 0.07), (10, 1, 0.07), (3, 2, 0.07), (1, 4, 0.1)] {
        for over in [1.3, 2.0] {
            for seed in 0..20 {
                let (before, _) = in_calm((n, slots, service, true), seed);
                let mut backends = pool(n, slots, service);
                backends.iter_mut().for_each(|backend| backend.random = true);
                let mut world = World::new(backends, 0.0, seed);
                for uid in 0..n {
                    let calm = before.learner.calm_of(uid).expect("it was calm");
                    world.learner.believe(uid, calm);
                }
                world.load = over * world.capacity();
                while !world.learner.is_limited() && world.now < 10.0 {
                    world.run(0.5);
                }
                if !world.learner.is_limited() {
                    missed.push((n, slots, over, seed));
                }
            }
        }
    }
    assert!(missed.len() <= 2, "of 160: {missed:?}");
}

/// One that was started in the middle of it and was told nothing: flows alone show it.
#[test]
fn one_that_is_there_from_the_start_is_seen_by_its_flows() {
    let (mut soon, mut missed) = (0, Vec::new());
    for (n, slots, service) in [(10, 2, 0.07), (10, 1, 0.07), (3, 2, 0.07), (1, 4, 0.1)] {
        for over in [1.3, 2.0, 3.0, 5.0] {
            for seed in 0..20 {
                let mut world = World::new(pool(n, slots, service), 0.0, seed);
                world.load = over * world.capacity();
                while !world.learner.is_limited() && world.now < 30.0 {
                    world.run(0.5);
                }
                soon += u32::from(world.now <= 15.0);
                if !world.learner.is_limited() {
                    missed.push((n, slots, over, seed));
                }
            }
        }
    }
    assert!(soon >= 295 && missed.len() <= 2, "of 320 {soon} within 15 s, missed {missed:?}");
}

/// More comes all the time, and more is under way, as each takes long.
#[test]
fn a_slow_service_that_gets_more_and_more_is_no_overload() {
    let mut found = Vec::new();
    for (n, service, load) in [(4, 5.0, 100.0), (2, 10.0, 100.0), (3, 2.0, 500.0)] {
        for random in [true, false] {
            for seed in 0..10 {
                let mut backends = pool(n, 1_000_000, service);
                backends.iter_mut().for_each(|backend| backend.random = random);
                let mut world = World::new(backends, load, seed);
                while !world.learner.is_limited() && world.now < 60.0 {
                    world.load = load * (0.3 + world.now / 60.0);
                    world.run(0.5);
                }
                if world.learner.is_limited() {
                    found.push((n, service, random, seed));
                }
            }
        }
    }
    assert!(found.len() <= 2, "of 60: {found:?}");
}

/// What is under way grows for a while, and those that are answered first were quick.
#[test]
fn a_slow_service_that_starts_is_no_overload() {
    let mut found = Vec::new();
    for (n, service, load) in [(4, 5.0, 100.0), (4, 0.5, 400.0), (2, 10.0, 100.0), (10, 1.0, 300.0)]
    {
        for seed in 0..15 {
            let mut world = World::new(pool(n, 1_000_000, service), load, seed);
            while !world.learner.is_limited() && world.now < 60.0 {
                world.run(0.5);
            }
            if world.learner.is_limited() {
                found.push((n, service, seed));
            }
        }
    }
    assert!(found.len() <= 2, "of 60: {found:?}");
}
