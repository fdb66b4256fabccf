//! AWS target tracking: the mean CPU of a minute kept at 70 %.
//!
//! Source: Application Auto Scaling user guide, "Target tracking scaling policies": an alarm above
//! the target for 3 minutes scales out in proportion (ceil(size × metric ÷ target)), one
//! below 90 % of it for 15 minutes scales in; cooldowns of 300 s, which a larger scale-out and a
//! scale-out after a scale-in do not wait for. The alarms' periods are those that it creates
//! itself; how far it scales in is not published, so it goes to the proportional size.

use std::collections::VecDeque;

use super::{Policy, Seen, Setting, Window, ceil};

const MINUTE: u64 = 60;
const TARGET: f64 = 0.7;
const OUT_MINUTES: usize = 3;
const IN_MINUTES: usize = 15;
const IN_BELOW: f64 = 0.9;
const COOLDOWN: u64 = 300;

#[derive(Debug)]
pub(super) struct TargetTracking {
    slots: f64,
    min: u32,
    max: u32,
    utilization: Window,
    /// Means of the last minutes, newest last.
    minutes: VecDeque<f64>,
    /// When it last changed the size, by how much, and whether upwards.
    last: Option<(u64, u32, bool)>,
}

impl TargetTracking {
    pub(super) fn new(setting: &Setting) -> Self {
        Self {
            slots: setting.slots,
            min: setting.min,
            max: setting.max,
            utilization: Window::new(MINUTE as usize),
            minutes: VecDeque::new(),
            last: None,
        }
    }

    fn decide(&mut self, now: u64, size: u32) -> u32 {
        let newest = self.minutes.back().copied().unwrap_or(TARGET);
        let all = |minutes: usize, is: &dyn Fn(f64) -> bool| {
            self.minutes.len() >= minutes && self.minutes.iter().rev().take(minutes).all(|m| is(*m))
        };
        let wish = ceil(f64::from(size) * newest / TARGET).clamp(self.min, self.max);
        let cooling = self.last.filter(|(at, _, _)| at + COOLDOWN > now);
        let out = all(OUT_MINUTES, &|minute| minute > TARGET);
        let inwards = all(IN_MINUTES, &|minute| minute < TARGET * IN_BELOW);
        let allowed = match cooling {
            None => (out && wish > size) || (inwards && wish < size),
            // A larger scale-out than the last need not wait, nor any after a scale-in.
            Some((_, by, up)) => out && wish > size && (!up || wish - size > by),
        };
        if !allowed {
            return size;
        }
        self.last = Some((now, wish.abs_diff(size), wish > size));
        wish
    }
}

impl Policy for TargetTracking {
    fn tick(&mut self, seen: &Seen) -> u32 {
        self.utilization.push(seen.busy / (f64::from(seen.ready.max(1)) * self.slots));
        if !(seen.second + 1).is_multiple_of(MINUTE) {
            return seen.size;
        }
        self.minutes.push_back(self.utilization.mean());
        if self.minutes.len() > IN_MINUTES {
            self.minutes.pop_front();
        }
        self.decide(seen.second, seen.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(minutes: &[f64]) -> TargetTracking {
        let tracking = TargetTracking::new(&Setting::standard(30.0));
        TargetTracking { minutes: minutes.iter().copied().collect(), ..tracking }
    }

    #[test]
    fn three_minutes_above_scale_out_in_proportion() {
        assert_eq!(after(&[0.5, 1.0, 1.0]).decide(180, 7), 7);
        assert_eq!(after(&[1.0, 1.0, 1.0]).decide(180, 7), 10);
    }

    #[test]
    fn fifteen_minutes_below_scale_in() {
        assert_eq!(after(&[0.35; 14]).decide(900, 10), 10);
        assert_eq!(after(&[0.35; 15]).decide(900, 10), 5);
        assert_eq!(after(&[0.65; 15]).decide(900, 10), 10, "above 90 % of the target");
    }

    #[test]
    fn a_cooldown_lets_only_larger_steps_out_through() {
        let mut tracking = after(&[1.0, 1.0, 1.0]);
        assert_eq!(tracking.decide(180, 7), 10);
        assert_eq!(tracking.decide(240, 7), 7, "three again is no more than the last");
        assert_eq!(tracking.decide(240, 14), 20);
        assert_eq!(tracking.decide(540, 7), 10, "after the cooldown");
    }
}
