//! How many backends a rate needs, so that few requests wait for long.
//!
//! Source: A. K. Erlang, 1917; the waiting time in M/M/N, for example L. Kleinrock, "Queueing
//! Systems" I, 3.4. All slots of all backends are one group of servers with one queue before
//! them, which is what picking the least loaded backend comes to.

use std::collections::HashMap;

/// Above this many slots the exact sum is not worth its time: the group is so large that noise is
/// nothing beside the utilization ceiling.
const MOST_SLOTS: f64 = 20_000.0;
/// Standard deviations of the load that are added there.
const LARGE_GROUP: f64 = 4.0;
/// Rates whose number is remembered.
const REMEMBERED: usize = 4096;

/// A service as a queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Model {
    /// Slots of one backend, at least 1.
    pub slots: f64,
    /// Seconds of one request in a slot.
    pub service: f64,
    /// Seconds that a request may wait.
    pub wait: f64,
    pub max_utilization: f64,
    /// Share that may wait longer.
    pub wait_probability: f64,
}

/// Answers, remembered as long as the model stays the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Staffing {
    model: Option<Model>,
    known: HashMap<u64, u32>,
}

impl Staffing {
    /// The smallest number of backends for a rate. The rate is rounded up to whole requests per
    /// second, which costs nobody a backend and makes answers worth remembering.
    pub fn backends(&mut self, model: &Model, rate: f64) -> u32 {
        if self.model != Some(*model) || self.known.len() >= REMEMBERED {
            self.model = Some(*model);
            self.known.clear();
        }
        let rate = rate.ceil().max(0.0) as u64;
        *self.known.entry(rate).or_insert_with(|| model.backends(rate as f64))
    }
}

impl Model {
    fn backends(&self, rate: f64) -> u32 {
        let load = rate * self.service;
        if load <= 0.0 {
            return 0;
        }
        // Compared as a product, so that no quotient's last digit decides.
        let per_backend = self.slots * self.max_utilization;
        let mut least = (load / per_backend).floor().max(1.0);
        while load > least * per_backend {
            least += 1.0;
        }
        if least * self.slots > MOST_SLOTS {
            let slots = load + LARGE_GROUP * load.sqrt();
            return (slots / self.slots).ceil().max(least) as u32;
        }
        let mut n = least as u32;
        let mut blocking = Blocking::new(load);
        while self.late(rate, n, &mut blocking) > self.wait_probability {
            n += 1;
        }
        n
    }

    /// Share of requests that wait too long with so many backends.
    fn late(&self, rate: f64, n: u32, blocking: &mut Blocking) -> f64 {
        let slots = (f64::from(n) * self.slots).floor();
        if slots <= blocking.load {
            return 1.0;
        }
        blocking.queued(slots as u32) * (-(slots / self.service - rate) * self.wait).exp()
    }
}

/// P(wait > `wait`) with so many slots, for a rate (per second) and a service time (seconds).
/// 1 when the slots cannot carry the rate.
pub fn wait_probability(slots: u32, rate: f64, service: f64, wait: f64) -> f64 {
    let load = rate * service;
    if load <= 0.0 {
        return 0.0;
    }
    if f64::from(slots) <= load {
        return 1.0;
    }
    let over = f64::from(slots) / service - rate;
    Blocking::new(load).queued(slots) * (-over * wait).exp()
}

/// Erlang B by its recursion over the number of slots: no factorials, so it neither overflows nor
/// loses digits, and the next number costs one step.
struct Blocking {
    load: f64,
    slots: u32,
    value: f64,
}

impl Blocking {
    fn new(load: f64) -> Self {
        Self { load, slots: 0, value: 1.0 }
    }

    /// Erlang C: the share that has to wait at all. Slots may only grow from call to call.
    fn queued(&mut self, slots: u32) -> f64 {
        while self.slots < slots {
            self.slots += 1;
            let offered = self.load * self.value;
            self.value = offered / (f64::from(self.slots) + offered);
        }
        self.value / (1.0 - self.load / f64::from(slots) * (1.0 - self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        Model {
            slots: 4.0,
            service: 0.1,
            wait: 0.25,
            max_utilization: 0.95,
            wait_probability: 0.002,
        }
    }

    #[test]
    fn the_table_of_the_design() {
        let mut staffing = Staffing::default();
        for (rate, n) in [
            (1.0, 1),
            (10.0, 1),
            (40.0, 2),
            (60.0, 3),
            (72.0, 3),
            (100.0, 4),
            (120.0, 4),
            (220.0, 7),
            (264.0, 8),
            (500.0, 14),
            (600.0, 16),
            (1000.0, 27),
            (1200.0, 32),
            (1440.0, 38),
        ] {
            assert_eq!(staffing.backends(&model(), rate), n, "{rate} rps");
        }
    }

    #[test]
    fn erlang_c_as_in_the_textbooks() {
        // M/M/1: the share that waits is the utilization. M/M/2 at 1 erlang: 1/3.
        assert!((Blocking::new(0.7).queued(1) - 0.7).abs() < 1e-12);
        assert!((Blocking::new(1.0).queued(2) - 1.0 / 3.0).abs() < 1e-12);
        // 100 erlangs on 110 slots, by the sum of the definition in exact arithmetic.
        assert!((Blocking::new(100.0).queued(110) - 0.237_007_500_285).abs() < 1e-10);
    }

    #[test]
    fn a_number_is_enough_and_one_fewer_is_not() {
        for rate in (1..20_000).step_by(37) {
            let rate = f64::from(rate);
            let n = model().backends(rate);
            let fits = |n: u32| {
                rate * 0.1 <= f64::from(n) * (4.0 * 0.95)
                    && wait_probability(n * 4, rate, 0.1, 0.25) <= 0.002
            };
            assert!(fits(n) && (n == 1 || !fits(n - 1)), "{rate} rps: {n}");
        }
    }

    #[test]
    fn more_load_never_needs_fewer_even_where_the_exact_sum_ends() {
        let mut last = 0;
        for rate in (100_000..400_000).step_by(10_000) {
            let n = model().backends(f64::from(rate));
            assert!(n > last);
            last = n;
        }
    }

    #[test]
    fn nothing_needs_nobody() {
        assert_eq!(Staffing::default().backends(&model(), 0.0), 0);
    }
}
