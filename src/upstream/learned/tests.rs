//! Words, probes and the look at all, in turns of one thread.

use super::*;

const SECOND: Micros = 1_000_000;
const FAST: Micros = 50_000;
const SLOW: Micros = 800_000;

struct World {
    backends: Vec<Learned>,
    peers: Peers,
    observer: Observer,
    now: Micros,
}

impl World {
    fn new(backends: usize) -> Self {
        let backends = (0..backends).map(|_| Learned::default()).collect();
        Self { backends, peers: Peers::new(1), observer: Observer::default(), now: SECOND }
    }

    fn answered(&mut self, i: usize, took: Micros, times: usize) {
        for _ in 0..times {
            self.peers.answered(&self.backends[i], 0, took, self.now);
        }
    }

    fn failed(&mut self, i: usize, took: Micros, times: usize) {
        for _ in 0..times {
            self.peers.failed(&self.backends[i], took, self.now);
        }
    }

    fn look(&mut self) {
        let backends = self.backends.iter().map(|b| (b, true));
        self.peers.look(&mut self.observer, backends, self.now);
    }

    fn factor(&self, i: usize) -> f32 {
        self.backends[i].standing().factor
    }

    /// How long until a probe is due, in whole seconds; `None`: not suspect.
    fn wait(&self, i: usize) -> Option<u32> {
        let standing = self.backends[i].standing();
        (standing.probe_at != 0).then(|| since(millis(self.now), standing.probe_at) / 1000)
    }

    /// Goes on to when a probe is due, and takes it.
    fn claim(&mut self, i: usize) {
        let standing = self.backends[i].standing();
        self.now = self.now.max(Micros::from(standing.probe_at) * 1000);
        assert!(standing.is_due(self.now));
        assert!(self.backends[i].claim(standing, self.now));
    }
}

/// 14 fast ones and 2 slow ones that everybody knows.
fn two_slow() -> World {
    two_slow_at(SECOND)
}

fn two_slow_at(now: Micros) -> World {
    let mut world = World { now, ..World::new(16) };
    (0..14).for_each(|i| world.answered(i, FAST, 30));
    (14..16).for_each(|i| world.answered(i, SLOW, 30));
    world.look();
    world
}

#[test]
fn nothing_is_concluded_from_few_answers_or_from_one_backend() {
    let mut world = World::new(2);
    world.answered(0, FAST, 100);
    world.answered(1, SLOW, 7);
    world.look();
    assert_eq!((world.factor(0), world.factor(1)), (1.0, 1.0));
    world.answered(1, SLOW, 1);
    world.look();
    assert!(world.factor(1) > 10.0, "{}", world.factor(1));
    assert_eq!(world.factor(0), 1.0, "being fast buys nothing");
}

#[test]
fn the_slow_are_told_from_the_others() {
    let world = two_slow();
    assert!((0..14).all(|i| world.factor(i) == 1.0 && world.wait(i).is_none()));
    assert!((14..16).all(|i| world.factor(i) == 16.0 && world.wait(i) == Some(4)));
}

#[test]
fn two_failures_in_a_row_are_enough_when_nobody_else_fails() {
    let mut world = World::new(4);
    world.failed(0, 1000, 1);
    assert_eq!((world.factor(0), world.wait(0)), (1.0, None));
    world.failed(0, 1000, 1);
    assert_eq!((world.factor(0), world.wait(0)), (16.0, Some(4)));
}

#[test]
fn when_all_fail_nobody_is_avoided() {
    let mut world = World::new(3);
    for _ in 0..100 {
        (0..3).for_each(|i| world.failed(i, 1000, 1));
        world.look();
    }
    // Twenty in a row are always enough; an answer in between is what shows that it is not this backend.
    for i in 0..3 {
        world.answered(i, FAST, 1);
        world.look();
        assert_eq!(world.factor(i), 1.0);
    }
}

#[test]
fn a_due_probe_is_taken_once_and_comes_again_when_nothing_comes_back() {
    let mut world = two_slow();
    let seen = world.backends[15].standing();
    assert!(!seen.is_due(world.now));
    world.now += 4 * SECOND;
    assert!(seen.is_due(world.now));
    assert!(world.backends[15].claim(seen, world.now));
    assert!(!world.backends[15].claim(seen, world.now), "another worker that saw the same");
    assert!(!world.backends[15].standing().is_due(world.now));
    assert_eq!(world.wait(15), Some(4));
}

#[test]
fn bad_probes_wait_longer_each_time_up_to_a_share_of_the_traffic() {
    let mut world = two_slow();
    let mut waits = Vec::new();
    for _ in 0..6 {
        world.claim(15);
        world.now += SLOW;
        world.answered(15, SLOW, 1);
        waits.push(world.wait(15).expect("suspect"));
    }
    assert_eq!(waits, [8, 16, 32, 64, 120, 120], "no traffic: the longest");

    // At 300 a second, 3000 requests are 10 s, and the least is 15.
    for _ in 0..600 {
        world.now += 100_000;
        (0..14).for_each(|i| world.answered(i, FAST, 2));
        world.look();
    }
    world.claim(15);
    world.answered(15, SLOW, 1);
    assert_eq!(world.wait(15), Some(15));
}

#[test]
fn good_probes_follow_each_other_until_it_is_trusted_again() {
    let mut world = two_slow();
    let mut probes = 0;
    while world.wait(15).is_some() {
        world.claim(15);
        world.now += FAST;
        world.answered(15, FAST, 1);
        world.look();
        probes += 1;
        assert!(probes < 60, "it never ends: {}", world.factor(15));
        assert!(world.wait(15).is_none_or(|wait| wait == 0), "the next one is due at once");
    }
    assert!((10..40).contains(&probes), "{probes}");
    assert!(world.factor(15) <= BAND);
}

#[test]
fn only_the_first_outcome_after_the_claim_is_the_probes() {
    let mut world = two_slow();
    world.claim(15);
    world.answered(15, SLOW, 2);
    assert_eq!(world.wait(15), Some(8), "one bad probe, not two");
}

#[test]
fn a_passed_check_makes_a_probe_due_unless_checks_passed_all_along() {
    let mut world = two_slow();
    let pass = |world: &World| world.backends[15].check_passed(world.now);
    pass(&world);
    assert_eq!(world.wait(15), Some(0), "not tried yet");
    world.claim(15);
    world.answered(15, SLOW, 1);
    pass(&world);
    assert_eq!(world.wait(15), Some(8), "it passed and was slow: checks do not see it");
    for _ in 0..3 {
        world.claim(15);
        world.answered(15, SLOW, 1);
    }
    assert_eq!(world.wait(15), Some(64));
    world.now += 29 * SECOND;
    pass(&world);
    assert_eq!(world.wait(15), Some(35));
    world.now += SECOND;
    pass(&world);
    assert_eq!(world.wait(15), Some(0), "half a minute since the last");
    world.claim(15);
    world.answered(15, SLOW, 1);
    world.backends[15].check_failed();
    pass(&world);
    assert_eq!(world.wait(15), Some(0), "it failed and passes again");
    pass(&world);
    world.backends[0].check_passed(world.now);
    assert_eq!(world.wait(0), None, "nothing to try");
}

#[test]
fn a_backend_that_stalls_is_seen_by_two_answers_and_soon_forgiven() {
    let mut world = World::new(11);
    for _ in 0..30 {
        (0..11).for_each(|i| world.answered(i, 167_000, 1));
        world.now += SECOND / 30;
        world.look();
    }
    world.answered(0, 2_000_000, 1);
    assert_eq!(world.factor(0), 1.0, "one is an accident");
    world.answered(0, 2_000_000, 1);
    assert!(world.factor(0) > 10.0, "{}", world.factor(0));
    world.answered(0, 167_000, 2);
    assert!(world.factor(0) < 2.0, "{}", world.factor(0));
}

#[test]
fn a_slow_failure_counts_as_slow_and_a_fast_one_does_not_count_as_fast() {
    let mut world = World::new(2);
    (0..2).for_each(|i| world.answered(i, FAST, 30));
    let before = world.backends[0].latency();
    world.failed(0, 1000, 1);
    assert_eq!(world.backends[0].latency().mean, before.mean);
    assert_eq!(floats(world.backends[0].last_two.load(Relaxed)).0, FAST as f32);
    world.failed(0, 1_500_000, 1);
    assert_eq!(floats(world.backends[0].last_two.load(Relaxed)).0, 5_000_000.0);
}

#[test]
fn who_takes_no_requests_does_not_count_for_what_is_usual() {
    let mut world = World::new(3);
    world.answered(0, FAST, 30);
    (1..3).for_each(|i| world.answered(i, SLOW, 30));
    let serving = [true, true, false];
    let backends = world.backends.iter().zip(serving);
    world.peers.look(&mut world.observer, backends, world.now);
    // Of two the middle lies between: 4 times slower than that each way.
    assert!(world.factor(1) > 10.0 && world.factor(2) > 10.0);
    world.look();
    assert_eq!((world.factor(1), world.factor(2)), (1.0, 1.0), "two of three are the usual");
}

#[test]
fn one_look_is_due_every_tenth_of_a_second_and_less_often_in_huge_pools() {
    let peers = Peers::new(1);
    assert!(peers.is_due(5 * SECOND, 3));
    assert!(!peers.is_due(5 * SECOND, 3), "another worker did it");
    assert!(!peers.is_due(5 * SECOND + 99_000, 3));
    assert!(peers.is_due(5 * SECOND + 100_000, 3));
    assert!(!peers.is_due(6 * SECOND, 10_000));
    assert!(peers.is_due(6 * SECOND + 100_000, 10_000));
}

#[test]
fn time_may_run_over_its_word() {
    let end = (u64::from(u32::MAX) + 1) * 1000;
    let mut world = two_slow_at(end - 6 * SECOND);
    world.claim(15);
    world.answered(15, SLOW, 1);
    assert_eq!((world.now, world.wait(15)), (end - 2 * SECOND, Some(8)));
    assert!(!world.backends[15].standing().is_due(end + 5 * SECOND));
    assert!(world.backends[15].standing().is_due(end + 6 * SECOND));
}

#[test]
fn what_was_not_asked_for_weeks_is_due() {
    for days in [1, 24, 25, 49] {
        let mut world = two_slow();
        assert!(world.peers.is_due(world.now, 16));
        world.now += days * 86_400 * SECOND;
        assert!(world.backends[15].standing().is_due(world.now), "{days} days");
        assert!(world.peers.is_due(world.now, 16), "{days} days");
    }
}

/// Many threads at once: nothing is torn, and the estimates are where the samples are.
#[test]
fn writers_may_race() {
    let backend = Learned::default();
    let peers = Peers::new(4);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (backend, peers) = (&backend, &peers);
            scope.spawn(move || {
                for i in 0..20_000_u64 {
                    peers.answered(backend, worker, 900 + i % 200, SECOND + i * 100);
                    let standing = backend.standing();
                    assert!((1.0..=16.0).contains(&standing.factor), "{standing:?}");
                    if standing.is_due(SECOND + i * 100) {
                        backend.claim(standing, SECOND + i * 100);
                    }
                }
            });
        }
    });
    let latency = backend.latency();
    assert!((900.0..1100.0).contains(&latency.mean.exp()), "{latency:?}");
    assert!(latency.is_known() && backend.failing() == 0.0);
}

#[test]
fn the_p95_is_known_after_twenty_answers() {
    let mut world = World::new(2);
    world.answered(0, FAST, 20);
    world.look();
    assert_eq!(world.peers.p95(), None);
    world.answered(0, FAST, 75);
    world.answered(1, SLOW, 5);
    world.look();
    let p95 = world.peers.p95().expect("a hundred are enough");
    assert!((FAST..FAST * 9 / 8).contains(&p95), "{p95}");
    assert!(world.peers.usual().is_some_and(|p99| p99 > SLOW * 7 / 8));
}

#[test]
fn one_that_is_outlasted_is_learned_as_no_faster_than_it_was() {
    let world = two_slow();
    let before = world.backends[14].latency().mean;
    // Given up long before it would have answered: no reason to think better of it.
    for _ in 0..50 {
        world.peers.outlasted(&world.backends[14], 0, FAST, world.now);
    }
    assert!((world.backends[14].latency().mean - before).abs() < 0.01);
    // A fast one that is given up late is slower than it was thought to be.
    let fast = world.backends[5].latency().mean;
    world.peers.outlasted(&world.backends[5], 0, SLOW, world.now);
    assert!(world.backends[5].latency().mean > fast);
    assert!(world.backends[5].failing() < 0.01, "it is no failure");
}
