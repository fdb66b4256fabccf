//! A service with a proxy that heeds the limits, in simulated time: Poisson arrivals, backends with slots.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::overload::{Learner, Limits, Seen};

/// Time between ticks, in seconds.
pub const TICK: f64 = 0.1;

pub struct World {
    pub now: f64,
    pub learner: Learner,
    pub limits: Limits,
    pub backends: Vec<Backend>,
    /// Arrivals a second.
    pub load: f64,
    /// Seconds that one waits for a place at most.
    pub patience: f64,
    /// Whether the rate is heeded.
    pub rated: bool,
    pub shed: u64,
    shed_before: u64,
    /// Seconds that each answered request took, from its arrival.
    pub took: Vec<f64>,
    queue: VecDeque<f64>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    /// GCRA's theoretical arrival time.
    next: f64,
    arrives: f64,
    ticks: f64,
    rng: fastrand::Rng,
}

pub struct Backend {
    pub uid: u64,
    pub slots: u32,
    /// Mean seconds of a request.
    pub service: f64,
    /// Whether these are exponential; else all are alike.
    pub random: bool,
    pub active: bool,
    /// Answered, in flight, and never ending.
    pub streams: u32,
    most: u32,
    low: u32,
    in_flight: u32,
    /// Arrived, sent, found few, for those that wait in the backend.
    waiting: VecDeque<Request>,
    busy: u32,
    low_open: u32,
    seen: Seen,
}

#[derive(Clone, Copy)]
struct Request {
    arrived: f64,
    sent: f64,
    low: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    backend: usize,
    arrived: u64,
    sent: u64,
    low: bool,
}

impl Backend {
    pub fn new(uid: u64, slots: u32, service: f64) -> Self {
        Self {
            uid,
            slots,
            service,
            random: true,
            active: true,
            streams: 0,
            most: 0,
            low: 1,
            in_flight: 0,
            waiting: VecDeque::new(),
            busy: 0,
            low_open: 0,
            seen: Seen::default(),
        }
    }

    /// Requests a second that it can answer.
    pub fn capacity(&self) -> f64 {
        f64::from(self.slots) / self.service
    }
}

impl World {
    pub fn new(backends: Vec<Backend>, load: f64, seed: u64) -> Self {
        Self {
            now: 0.0,
            learner: Learner::default(),
            limits: Limits::none(),
            backends,
            load,
            patience: 0.1,
            rated: true,
            shed: 0,
            shed_before: 0,
            took: Vec::new(),
            queue: VecDeque::new(),
            events: BinaryHeap::new(),
            next: 0.0,
            arrives: 0.0,
            ticks: TICK,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// What all active backends can answer, a second.
    pub fn capacity(&self) -> f64 {
        self.backends.iter().filter(|b| b.active).map(Backend::capacity).sum()
    }

    /// Goes on for so many seconds; answers a second meanwhile.
    pub fn run(&mut self, seconds: f64) -> f64 {
        let end = self.now + seconds;
        let before = self.took.len();
        loop {
            let done =
                self.events.peek().map_or(f64::INFINITY, |Reverse((at, _))| *at as f64 / 1e9);
            let at = done.min(self.arrives).min(self.ticks);
            if at > end {
                self.now = end;
                return (self.took.len() - before) as f64 / seconds;
            }
            self.now = at;
            if at == self.ticks {
                self.tick();
                self.ticks += TICK;
            } else if at == self.arrives {
                self.arrive();
                self.arrives += -(1.0 - self.rng.f64()).ln() / self.load;
            } else if let Some(Reverse((_, event))) = self.events.pop() {
                self.done(&event);
            }
        }
    }

    /// A quantile of what requests took that were answered since `from` of them had been.
    pub fn quantile(&self, from: usize, q: f64) -> f64 {
        let mut took = self.took[from..].to_vec();
        took.sort_by(f64::total_cmp);
        took.get((took.len().saturating_sub(1) as f64 * q) as usize).copied().unwrap_or(0.0)
    }

    /// Of all active backends.
    pub fn mean_limit(&self) -> f64 {
        let active: Vec<_> = self.backends.iter().filter(|b| b.active).collect();
        active.iter().map(|b| f64::from(b.most)).sum::<f64>() / active.len() as f64
    }

    fn tick(&mut self) {
        let refused = !self.queue.is_empty() || self.shed > self.shed_before;
        self.shed_before = self.shed;
        let seen: Vec<Seen> = self
            .backends
            .iter_mut()
            .filter(|b| b.active)
            .map(|b| {
                let (uid, in_flight) = (b.uid, b.in_flight + b.streams);
                Seen {
                    uid,
                    in_flight,
                    ramp: 1.0,
                    low_open: b.low_open,
                    ..std::mem::take(&mut b.seen)
                }
            })
            .collect();
        self.limits = self.learner.tick(&seen, TICK, refused, 0.1);
        for (b, limit) in self.backends.iter_mut().filter(|b| b.active).zip(&self.limits.of) {
            (b.most, b.low) = (limit.most, limit.low);
        }
        self.drain_queue();
    }

    fn arrive(&mut self) {
        let rate = self.limits.rate;
        // While nobody waits all are let in.
        if self.rated && rate.is_finite() && !self.queue.is_empty() {
            let interval = 1.0 / rate;
            let tolerance = (5.0 * interval).max(0.075);
            if self.now < self.next - tolerance {
                self.shed += 1;
                return;
            }
            self.next = self.next.max(self.now) + interval;
        }
        self.queue.push_back(self.now);
        self.drain_queue();
        let summed: u32 = self.backends.iter().filter(|b| b.active).map(|b| b.most).sum();
        if self.queue.len() as u32 > summed / 2 {
            self.queue.pop_back();
            self.shed += 1;
        }
    }

    fn drain_queue(&mut self) {
        while let Some(&arrived) = self.queue.front() {
            if self.now - arrived > self.patience {
                self.queue.pop_front();
                self.shed += 1;
                continue;
            }
            let free =
                |b: &&mut Backend| b.active && (b.most == 0 || b.in_flight + b.streams < b.most);
            let first = self.rng.usize(..self.backends.len());
            let (left, right) = self.backends.split_at_mut(first);
            let order = right.iter_mut().chain(left);
            let Some(backend) = order.filter(free).min_by_key(|b| b.in_flight) else { return };
            self.queue.pop_front();
            let uid = backend.uid;
            let low = backend.in_flight <= backend.low.saturating_sub(1);
            backend.in_flight += 1;
            backend.seen.picks += 1;
            backend.low_open += u32::from(low);
            let all = f64::from(backend.in_flight + backend.streams);
            let near = backend.most > 0 && all >= 0.9 * f64::from(backend.most);
            backend.seen.near += u64::from(near);
            backend.waiting.push_back(Request { arrived, sent: self.now, low });
            let index = self.backends.iter().position(|b| b.uid == uid).unwrap();
            self.serve(index);
        }
    }

    fn serve(&mut self, index: usize) {
        let backend = &mut self.backends[index];
        while backend.busy < backend.slots
            && let Some(request) = backend.waiting.pop_front()
        {
            backend.busy += 1;
            let factor = if backend.random { -(1.0 - self.rng.f64()).ln() } else { 1.0 };
            let at = ((self.now + backend.service * factor) * 1e9) as u64;
            let Request { arrived, sent, low } = request;
            let (arrived, sent) = ((arrived * 1e9) as u64, (sent * 1e9) as u64);
            self.events.push(Reverse((at, Event { backend: index, arrived, sent, low })));
        }
    }

    fn done(&mut self, event: &Event) {
        let backend = &mut self.backends[event.backend];
        let time = self.now - event.sent as f64 / 1e9;
        backend.busy -= 1;
        backend.in_flight -= 1;
        backend.seen.done += 1;
        backend.seen.time += time;
        if event.low {
            backend.seen.low += 1;
            backend.low_open -= 1;
            backend.seen.low_time += time;
        }
        self.took.push(self.now - event.arrived as f64 / 1e9);
        self.serve(event.backend);
        self.drain_queue();
    }
}
