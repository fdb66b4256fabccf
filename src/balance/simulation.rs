//! Picking against backends that differ, stall, fail and come back, in virtual time.
//!
//! The whole loop without a socket: Poisson arrivals, the real [`Balancer`](super::Balancer) and estimates, and
//! backends that are a number of slots and a distribution. Seeded, so each run is the same. What is asserted is
//! who gets what, not how fast that is: latency hides starvation. That is measured by benches.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

use super::tests::{World, members};
use crate::clock::Micros;
use crate::config::types::Balance;

const MS: Micros = 1000;
const SECOND: Micros = 1_000_000;

/// How a backend answers at some time.
#[derive(Debug, Clone, Copy)]
enum Answers {
    /// After about so long (± 2 %).
    After(Micros),
    /// Exponentially distributed with this mean.
    Random(Micros),
    /// With a failure, after so long.
    Failing(Micros),
}

struct Backend {
    usual: Answers,
    /// How it is in between: a stall, an outage.
    unusual: Option<(Range<Micros>, Answers)>,
    slots: usize,
    busy: usize,
    /// When each was sent.
    waiting: VecDeque<Micros>,
}

impl Backend {
    fn new(usual: Answers) -> Self {
        let waiting = VecDeque::new();
        Self { usual, unusual: None, slots: usize::MAX, busy: 0, waiting }
    }

    fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    fn between(mut self, when: Range<Micros>, answers: Answers) -> Self {
        self.unusual = Some((when, answers));
        self
    }

    fn answers(&self, now: Micros) -> Answers {
        match &self.unusual {
            Some((when, answers)) if when.contains(&now) => *answers,
            _ => self.usual,
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Answer {
        backend: usize,
        sent: Micros,
        failed: bool,
    },
    /// An active check of every backend, which sees failures and nothing else.
    Checks,
}

struct Simulation {
    world: World,
    backends: Vec<Backend>,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    rng: fastrand::Rng,
    rate: f64,
    seq: u64,
    /// When each request was sent, to whom.
    sent: Vec<(Micros, usize)>,
    failed: usize,
}

impl Simulation {
    /// `rate`: requests a second.
    fn new(kind: Balance, rate: f64, backends: Vec<Backend>) -> Self {
        let world = World::new(kind, members(&vec![1; backends.len()]));
        let mut simulation = Self {
            world,
            backends,
            events: BinaryHeap::new(),
            rng: fastrand::Rng::with_seed(11),
            rate,
            seq: 0,
            sent: Vec::new(),
            failed: 0,
        };
        simulation.at(0, Event::Arrival);
        simulation
    }

    fn checked(mut self) -> Self {
        self.at(5 * SECOND, Event::Checks);
        self
    }

    fn at(&mut self, when: Micros, event: Event) {
        self.seq += 1;
        self.events.push(Reverse((when, self.seq, event)));
    }

    fn run(mut self, until: Micros) -> Self {
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > until {
                break;
            }
            self.world.now = now;
            match event {
                Event::Arrival => {
                    let gap = -(1.0 - self.rng.f64()).ln() / self.rate * SECOND as f64;
                    self.at(now + gap as Micros, Event::Arrival);
                    let backend = self.world.pick(&[]).expect("all are ready");
                    self.sent.push((now, backend));
                    if self.backends[backend].busy < self.backends[backend].slots {
                        self.serve(backend, now);
                    } else {
                        self.backends[backend].waiting.push_back(now);
                    }
                }
                Event::Answer { backend, sent, failed } => {
                    let member = &self.world.members[backend].backend;
                    let took = now - sent;
                    if failed {
                        self.failed += 1;
                        self.world.peers.failed(&member.learned, took, now);
                    } else {
                        self.world.peers.answered(&member.learned, 0, took, now);
                    }
                    member.gate.leave();
                    self.backends[backend].busy -= 1;
                    if let Some(sent) = self.backends[backend].waiting.pop_front() {
                        self.serve(backend, sent);
                    }
                }
                Event::Checks => {
                    for (member, backend) in self.world.members.iter().zip(&self.backends) {
                        match backend.answers(now) {
                            Answers::Failing(_) => member.backend.learned.check_failed(),
                            _ => member.backend.learned.check_passed(now),
                        }
                    }
                    self.at(now + 5 * SECOND, Event::Checks);
                }
            }
        }
        self
    }

    fn serve(&mut self, backend: usize, sent: Micros) {
        let now = self.world.now;
        self.backends[backend].busy += 1;
        let answers = self.backends[backend].answers(now);
        let (took, failed) = match answers {
            Answers::After(us) => ((us as f64 * (0.98 + 0.04 * self.rng.f64())) as Micros, false),
            Answers::Random(us) => ((-(1.0 - self.rng.f64()).ln() * us as f64) as Micros, false),
            Answers::Failing(us) => (us, true),
        };
        self.at(now + took, Event::Answer { backend, sent, failed });
    }

    /// Each backend's share of the requests sent in this time.
    fn shares(&self, when: Range<Micros>) -> Vec<f64> {
        let mut counts = vec![0_u32; self.backends.len()];
        let sent: Vec<usize> =
            self.sent.iter().filter(|(at, _)| when.contains(at)).map(|(_, to)| *to).collect();
        sent.iter().for_each(|to| counts[*to] += 1);
        counts.iter().map(|n| f64::from(*n) / sent.len() as f64).collect()
    }
}

/// So many of one kind.
fn alike(n: usize, answers: Answers) -> Vec<Backend> {
    (0..n).map(|_| Backend::new(answers)).collect()
}

/// The largest of some shares over the smallest.
fn spread(shares: &[f64]) -> f64 {
    shares.iter().fold(0.0_f64, |a, b| a.max(*b)) / shares.iter().fold(1.0_f64, |a, b| a.min(*b))
}

#[test]
fn backends_that_are_alike_are_treated_alike_however_their_answers_vary() {
    let backends = alike(16, Answers::Random(80 * MS)).into_iter().map(|b| b.slots(5)).collect();
    let run = Simulation::new(Balance::Adaptive, 900.0, backends).run(60 * SECOND);
    let shares = run.shares(5 * SECOND..60 * SECOND);
    assert!(spread(&shares) < 1.15, "{shares:?}");
}

/// Fourteen fast ones, and two sixteen times slower.
fn two_slow(kind: Balance, rate: f64, until: Micros) -> Simulation {
    let mut backends = alike(14, Answers::After(50 * MS));
    backends.extend(alike(2, Answers::After(800 * MS)));
    Simulation::new(kind, rate, backends).run(until)
}

#[test]
fn slow_ones_get_probes_only() {
    let slow = |run: &Simulation| run.shares(5 * SECOND..120 * SECOND)[14..].iter().sum::<f64>();
    let run = two_slow(Balance::Adaptive, 500.0, 120 * SECOND);
    assert!((0.0001..0.001).contains(&slow(&run)), "{}", slow(&run));
    assert!(spread(&run.shares(0..120 * SECOND)[..14]) < 1.1);
    let plain = two_slow(Balance::LeastConnections, 500.0, 120 * SECOND);
    assert!(slow(&plain) > 10.0 * slow(&run), "{} by connections alone", slow(&plain));
}

#[test]
fn at_low_load_nobody_starves_and_the_slow_are_left_alone() {
    let run = two_slow(Balance::Adaptive, 8.0, 2500 * SECOND);
    assert!(run.sent.len() > 19_000);
    let shares = run.shares(0..2500 * SECOND);
    assert!(spread(&shares[..14]) < 1.5, "{shares:?}");
    assert!(
        shares.iter().all(|s| *s > 0.0) && shares[14..].iter().sum::<f64>() < 0.01,
        "{shares:?}"
    );
}

#[test]
fn a_few_requests_go_round() {
    let run = Simulation::new(Balance::Adaptive, 1.0, alike(3, Answers::Random(20 * MS)));
    let shares = run.run(3000 * SECOND).shares(0..3000 * SECOND);
    assert!(shares.iter().all(|s| (0.22..0.45).contains(s)), "{shares:?}");
}

#[test]
fn twice_as_slow_gets_less_by_more_than_its_load_alone_would_say() {
    let backends = |n| {
        let mut backends = alike(n, Answers::Random(40 * MS));
        backends.extend(alike(n, Answers::Random(80 * MS)));
        backends.into_iter().map(|b| b.slots(4)).collect()
    };
    let slow = |kind| {
        let run = Simulation::new(kind, 510.0, backends(4)).run(120 * SECOND);
        run.shares(10 * SECOND..120 * SECOND)[4..].iter().sum::<f64>()
    };
    let (adaptive, plain) = (slow(Balance::Adaptive), slow(Balance::LeastConnections));
    // By capacity a third would be right at full load.
    assert!((0.24..0.33).contains(&adaptive) && plain > adaptive, "{adaptive} {plain}");
}

#[test]
fn one_that_stalls_is_left_and_gets_its_share_back_within_45_seconds() {
    let mut backends = alike(10, Answers::After(167 * MS));
    let stalls = Backend::new(Answers::After(167 * MS));
    backends.push(stalls.between(30 * SECOND..60 * SECOND, Answers::After(2 * SECOND)));
    let run = Simulation::new(Balance::Adaptive, 300.0, backends).run(130 * SECOND);
    let share = |when: Range<Micros>| run.shares(when)[10];
    let before = share(5 * SECOND..30 * SECOND);
    assert!((0.08..0.10).contains(&before), "{before}");
    // Whatever was sent before the first two answers came is lost.
    assert!(share(30 * SECOND..60 * SECOND) < 0.01, "{}", share(30 * SECOND..60 * SECOND));
    let after = share(105 * SECOND..130 * SECOND);
    assert!(after > before * 2.0 / 3.0, "{after} of {before}");
}

/// One of ten fails, in this way and for so long, at such a rate; the share of failures.
fn one_fails(kind: Balance, failing: Micros, rate: f64, until: Micros) -> f64 {
    let mut backends = alike(9, Answers::After(50 * MS));
    backends.push(Backend::new(Answers::Failing(failing)));
    let run = Simulation::new(kind, rate, backends).run(until);
    run.failed as f64 / run.sent.len() as f64
}

#[test]
fn one_that_fails_fast_draws_nothing() {
    let adaptive = one_fails(Balance::Adaptive, MS, 500.0, 200 * SECOND);
    assert!(adaptive < 0.0005, "{adaptive}");
    let plain = one_fails(Balance::LeastConnections, MS, 500.0, 20 * SECOND);
    assert!(plain > 0.2, "{plain}: what it would be by connections alone");
}

#[test]
fn one_that_swallows_requests_is_left_alone_too() {
    let share = one_fails(Balance::Adaptive, 3 * SECOND, 500.0, 200 * SECOND);
    assert!(share < 0.001, "{share}");
}

#[test]
fn at_low_load_a_recovery_is_seen_within_45_seconds_by_its_checks() {
    let mut backends = alike(4, Answers::After(50 * MS));
    let broken = Backend::new(Answers::After(50 * MS));
    backends.push(broken.between(100 * SECOND..400 * SECOND, Answers::Failing(MS)));
    let run = Simulation::new(Balance::Adaptive, 8.0, backends).checked().run(1000 * SECOND);
    let share = |when: Range<Micros>| run.shares(when)[4];
    assert!(share(105 * SECOND..400 * SECOND) < 0.02, "{}", share(105 * SECOND..400 * SECOND));
    let after = share(445 * SECOND..1000 * SECOND);
    assert!((0.2 * 2.0 / 3.0..0.3).contains(&after), "{after}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let runs = [(); 2].map(|()| two_slow(Balance::Adaptive, 200.0, 10 * SECOND).sent);
    assert_eq!(runs[0], runs[1]);
}

/// Own backends that can do 320 a second, as many elsewhere.
fn zones(rate: f64, until: Micros) -> Simulation {
    let backends = alike(8, Answers::Random(50 * MS)).into_iter().map(|b| b.slots(4)).collect();
    let mut simulation = Simulation::new(Balance::Adaptive, rate, backends);
    simulation.world.members[4..].iter_mut().for_each(|m| m.near = false);
    simulation.world.sync();
    simulation.run(until)
}

#[test]
fn a_zone_that_cannot_do_it_all_sends_the_rest_away_and_does_so_steadily() {
    let own = |run: &Simulation, when| run.shares(when)[..4].iter().sum::<f64>();
    let quiet = zones(60.0, 30 * SECOND);
    assert!(own(&quiet, 0..30 * SECOND) > 0.97, "{}", own(&quiet, 0..30 * SECOND));
    // It can do two thirds of this.
    let crowd = zones(480.0, 60 * SECOND);
    let seconds: Vec<f64> = (10..60).map(|s| own(&crowd, s * SECOND..(s + 1) * SECOND)).collect();
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    assert!((0.52..0.667).contains(&mean), "{mean}");
    assert!(seconds.iter().all(|share| (mean - 0.15..mean + 0.15).contains(share)), "{seconds:?}");
}
