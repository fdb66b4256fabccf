//! The backends of the request level: their slots, starts, drains and the events of both.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::{Nanos, SECOND, START_TIMEOUT};
use crate::simulate::lognormal::Lognormal;
use crate::simulate::setting::Setting;

/// Starts whose times make the measured lead time, and how many are enough to believe it.
const STARTS: usize = 20;
const ENOUGH: usize = 5;

/// What happens at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A request of that backend is done.
    Done(usize),
    /// The start with that number is over, well or not.
    Started(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Gone,
    Ready,
    Draining,
}

#[derive(Debug, Clone, Copy)]
struct Backend {
    in_flight: u32,
    state: State,
}

#[derive(Debug, Clone, Copy)]
struct Start {
    number: u64,
    ordered: Nanos,
    ready: Nanos,
    fails: bool,
}

#[derive(Debug)]
pub(super) struct Backends {
    slots: u32,
    all: Vec<Backend>,
    ready: u32,
    draining: u32,
    busy: u64,
    /// Requests that ready backends could still take.
    free: u64,
    /// In the order of their orders.
    starting: VecDeque<Start>,
    events: BinaryHeap<Reverse<(Nanos, Event)>>,
    next: u64,
    start_up: Lognormal,
    failures: f64,
    /// What is told as long as too few starts were seen, in seconds.
    told: f64,
    /// Seconds that the last starts took.
    took: VecDeque<f64>,
}

impl Backends {
    pub(super) fn new(ready: u32, setting: &Setting, failures: f64, cv: f64) -> Self {
        let slots = setting.slots.round().max(1.0) as u32;
        Self {
            slots,
            all: vec![Backend { in_flight: 0, state: State::Ready }; ready as usize],
            ready,
            draining: 0,
            busy: 0,
            free: u64::from(ready * slots),
            starting: VecDeque::new(),
            events: BinaryHeap::new(),
            next: 0,
            start_up: Lognormal::new(setting.lead.max(1e-3), cv),
            failures,
            told: setting.lead,
            took: VecDeque::new(),
        }
    }

    pub(super) fn ready(&self) -> u32 {
        self.ready
    }

    /// Ready and starting.
    pub(super) fn size(&self) -> u32 {
        self.ready + self.starting.len() as u32
    }

    /// With those that finish what they have.
    pub(super) fn paid(&self) -> u32 {
        self.size() + self.draining
    }

    /// Slots in use.
    pub(super) fn busy(&self) -> u64 {
        self.busy
    }

    /// The lead time as it was measured: the 90th percentile of the last starts, in seconds.
    pub(super) fn lead(&self) -> f64 {
        if self.took.len() < ENOUGH {
            return self.told;
        }
        let mut took: Vec<f64> = self.took.iter().copied().collect();
        took.sort_by(f64::total_cmp);
        took[((took.len() as f64 * 0.9).ceil() as usize - 1).min(took.len() - 1)]
    }

    /// The next event up to a moment.
    pub(super) fn next(&mut self, until: Nanos) -> Option<(Nanos, Event)> {
        let Reverse((at, _)) = self.events.peek()?;
        if *at > until {
            return None;
        }
        self.events.pop().map(|Reverse(event)| event)
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Done(backend) => self.done(backend),
            Event::Started(number) => self.started(number),
        }
    }

    /// The ready backend with the fewest in flight, if it has a free slot.
    pub(super) fn pick(&self) -> Option<usize> {
        if self.free == 0 {
            return None;
        }
        let ready = self.all.iter().enumerate().filter(|(_, b)| b.state == State::Ready);
        let (at, _) = ready.min_by_key(|(_, backend)| backend.in_flight)?;
        Some(at)
    }

    /// A request begins on a backend that was picked.
    pub(super) fn begin(&mut self, backend: usize, done: Nanos) {
        self.all[backend].in_flight += 1;
        self.busy += 1;
        self.free -= 1;
        self.events.push(Reverse((done, Event::Done(backend))));
    }

    /// Orders what is missing; else calls off the newest starts, then drains those with the fewest in flight.
    pub(super) fn resize(&mut self, size: u32, now: Nanos, rng: &mut fastrand::Rng) {
        while self.size() < size {
            self.order(now, rng);
        }
        while self.size() > size {
            if self.starting.pop_back().is_none() {
                self.drain();
            }
        }
    }

    /// So many are ready at once, as for who has no lead time.
    pub(super) fn set(&mut self, size: u32) {
        self.starting.clear();
        while self.ready < size {
            self.add();
        }
        while self.ready > size {
            self.drain();
        }
    }

    fn order(&mut self, now: Nanos, rng: &mut fastrand::Rng) {
        let fails = self.failures > 0.0 && rng.f64() < self.failures;
        let takes = (self.start_up.draw(rng) * SECOND as f64) as Nanos;
        let ready = now + if fails { START_TIMEOUT.as_nanos() as Nanos } else { takes };
        self.next += 1;
        self.starting.push_back(Start { number: self.next, ordered: now, ready, fails });
        self.events.push(Reverse((ready, Event::Started(self.next))));
    }

    fn started(&mut self, number: u64) {
        // It may have been called off.
        let Some(at) = self.starting.iter().position(|start| start.number == number) else {
            return;
        };
        if let Some(start) = self.starting.remove(at).filter(|start| !start.fails) {
            self.took.push_back((start.ready - start.ordered) as f64 / SECOND as f64);
            if self.took.len() > STARTS {
                self.took.pop_front();
            }
            self.add();
        }
    }

    fn add(&mut self) {
        let new = Backend { in_flight: 0, state: State::Ready };
        match self.all.iter_mut().find(|backend| backend.state == State::Gone) {
            Some(place) => *place = new,
            None => self.all.push(new),
        }
        self.ready += 1;
        self.free += u64::from(self.slots);
    }

    fn drain(&mut self) {
        let ready = self.all.iter_mut().filter(|backend| backend.state == State::Ready);
        let Some(victim) = ready.min_by_key(|backend| backend.in_flight) else { return };
        self.ready -= 1;
        self.free -= u64::from(self.slots - victim.in_flight);
        if victim.in_flight == 0 {
            victim.state = State::Gone;
        } else {
            victim.state = State::Draining;
            self.draining += 1;
        }
    }

    fn done(&mut self, backend: usize) {
        let backend = &mut self.all[backend];
        backend.in_flight -= 1;
        self.busy -= 1;
        match backend.state {
            State::Ready => self.free += 1,
            State::Draining if backend.in_flight == 0 => {
                backend.state = State::Gone;
                self.draining -= 1;
            }
            State::Draining | State::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(ready: u32, failures: f64) -> (Backends, fastrand::Rng) {
        let setting = Setting { slots: 2.0, ..Setting::standard(10.0) };
        (Backends::new(ready, &setting, failures, 0.25), fastrand::Rng::with_seed(1))
    }

    fn all_until(backends: &mut Backends, until: Nanos) {
        while let Some((_, event)) = backends.next(until) {
            backends.happen(event);
        }
    }

    #[test]
    fn the_least_loaded_with_a_free_slot_is_picked() {
        let (mut backends, _) = backends(2, 0.0);
        let picked: Vec<_> = (0..5)
            .map(|_| {
                let picked = backends.pick();
                picked.inspect(|at| backends.begin(*at, SECOND))
            })
            .collect();
        assert_eq!(picked, [Some(0), Some(1), Some(0), Some(1), None]);
    }

    #[test]
    fn a_drained_one_finishes_and_is_paid_for_until_then() {
        let (mut backends, mut rng) = backends(1, 0.0);
        backends.begin(0, SECOND);
        backends.resize(0, 0, &mut rng);
        assert_eq!((backends.ready(), backends.size(), backends.paid()), (0, 0, 1));
        assert_eq!(backends.pick(), None);
        all_until(&mut backends, SECOND);
        assert_eq!((backends.paid(), backends.busy()), (0, 0));
    }

    #[test]
    fn the_lead_time_is_what_was_measured() {
        let (mut backends, mut rng) = backends(0, 0.0);
        assert_eq!(backends.lead(), 10.0);
        backends.resize(20, 0, &mut rng);
        all_until(&mut backends, 60 * SECOND);
        assert_eq!(backends.ready(), 20);
        // Two of twenty took longer.
        let longer = backends.took.iter().filter(|took| **took > backends.lead()).count();
        assert_eq!(longer, 2);
    }

    #[test]
    fn a_start_that_fails_never_serves_and_goes_after_its_timeout() {
        let (mut backends, mut rng) = backends(1, 1.0);
        backends.resize(3, 0, &mut rng);
        all_until(&mut backends, 59 * SECOND);
        assert_eq!((backends.ready(), backends.size()), (1, 3));
        all_until(&mut backends, 60 * SECOND);
        assert_eq!((backends.ready(), backends.size()), (1, 1));
    }

    #[test]
    fn a_start_that_was_called_off_does_not_come() {
        let (mut backends, mut rng) = backends(1, 0.0);
        backends.resize(2, 0, &mut rng);
        backends.resize(1, SECOND, &mut rng);
        all_until(&mut backends, 600 * SECOND);
        assert_eq!((backends.ready(), backends.paid()), (1, 1));
    }
}
