//! Knative's Pod Autoscaler: requests in flight over 60 s and 6 s, 70 % of the slots, every 2 s.
//!
//! Source: Knative Serving documentation, "Autoscaling concepts", and the autoscaler's
//! `Scale` function. Defaults: panic window 10 % of the stable one, panic threshold 200 %,
//! max-scale-up-rate 1000, max-scale-down-rate 2, scale-down-delay 0.

use super::{Policy, Seen, Setting, Window, ceil};

const PERIOD: u64 = 2;
const STABLE: usize = 60;
const PANIC: usize = 6;
const UTILIZATION: f64 = 0.7;
const PANIC_THRESHOLD: f64 = 2.0;
const MAX_SCALE_UP_RATE: f64 = 1000.0;
const MAX_SCALE_DOWN_RATE: f64 = 2.0;

#[derive(Debug)]
pub(super) struct Kpa {
    target: f64,
    min: u32,
    max: u32,
    stable: Window,
    lately: Window,
    /// When panic was last justified.
    panic: Option<u64>,
    /// The largest wish while in panic.
    most: u32,
}

impl Kpa {
    pub(super) fn new(setting: &Setting) -> Self {
        Self {
            target: UTILIZATION * setting.slots,
            min: setting.min,
            max: setting.max,
            stable: Window::new(STABLE),
            lately: Window::new(PANIC),
            panic: None,
            most: 0,
        }
    }

    /// The autoscaler's decision from means of both windows.
    fn decide(&mut self, now: u64, ready: u32, stable: f64, lately: f64) -> u32 {
        let ready = f64::from(ready.max(1));
        let up = (MAX_SCALE_UP_RATE * ready).ceil() as u32;
        let down = (ready / MAX_SCALE_DOWN_RATE).floor() as u32;
        let in_panic = ceil(lately / self.target);
        let stable = ceil(stable / self.target).max(down).min(up);
        let over = f64::from(in_panic) / ready >= PANIC_THRESHOLD;
        let in_panic = in_panic.max(down).min(up);
        if over {
            self.panic = Some(now);
        } else if self.panic.is_some_and(|last| last + (STABLE as u64) < now) {
            self.panic = None;
            self.most = 0;
        }
        if self.panic.is_none() {
            return stable;
        }
        self.most = self.most.max(stable).max(in_panic);
        self.most
    }
}

impl Policy for Kpa {
    fn tick(&mut self, seen: &Seen) -> u32 {
        self.stable.push(seen.in_flight());
        self.lately.push(seen.in_flight());
        if !seen.second.is_multiple_of(PERIOD) {
            return seen.size;
        }
        let (stable, lately) = (self.stable.mean(), self.lately.mean());
        self.decide(seen.second, seen.ready, stable, lately).clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kpa(target: f64) -> Kpa {
        let setting = Setting { slots: target / UTILIZATION, ..Setting::standard(30.0) };
        Kpa { min: 0, max: 1000, ..Kpa::new(&setting) }
    }

    /// The documentation's example: a target of 10 and 50 requests in flight make five pods.
    #[test]
    fn in_flight_over_the_target() {
        assert_eq!(kpa(10.0).decide(0, 4, 50.0, 50.0), 5);
        assert_eq!(kpa(10.0).decide(0, 4, 51.0, 51.0), 6);
    }

    #[test]
    fn panic_begins_at_twice_the_pods_and_only_goes_up_for_a_window() {
        let mut kpa = kpa(10.0);
        assert_eq!(kpa.decide(0, 5, 50.0, 90.0), 5, "nine of five is less than 200 %");
        assert_eq!(kpa.decide(2, 5, 55.0, 100.0), 10);
        assert_eq!(kpa.decide(4, 10, 40.0, 20.0), 10, "down is not for a panic");
        assert_eq!(kpa.decide(62, 10, 40.0, 20.0), 10);
        assert_eq!(kpa.decide(64, 10, 40.0, 20.0), 5, "halved at most: max-scale-down-rate");
        assert_eq!(kpa.decide(66, 5, 40.0, 20.0), 4);
    }

    #[test]
    fn the_scale_up_rate_bounds_what_one_pod_can_become() {
        assert_eq!(kpa(1.0).decide(0, 1, 5000.0, 5000.0), 1000);
    }
}
