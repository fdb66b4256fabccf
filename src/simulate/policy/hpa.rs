//! The Kubernetes HPA on CPU: 70 % of what is requested, every 15 s.
//!
//! Source: Kubernetes documentation, "Algorithm details", and the replica calculator of
//! kube-controller-manager: ceil(ready × utilization ÷ target), nothing within 10 %; pods that are
//! not ready yet count with 0 % on the way up and not at all on the way down. A pod's CPU is its
//! busy slots, which cannot exceed 100 %: queues it does not see. What metrics-server has to say is
//! the mean of 15 s, read when it is 15 s old.

use super::behaviour::Behaviour;
use super::{Policy, Seen, Setting, Window, ceil};

/// `--horizontal-pod-autoscaler-sync-period`, and the window of metrics-server.
const PERIOD: u64 = 15;
const TARGET: f64 = 0.7;
const TOLERANCE: f64 = 0.1;

#[derive(Debug)]
pub(super) struct Hpa {
    slots: f64,
    min: u32,
    max: u32,
    /// Busy slots of one ready pod, as a share.
    utilization: Window,
    /// What metrics-server tells: the mean at the period before.
    told: Option<f64>,
    behaviour: Behaviour,
}

impl Hpa {
    pub(super) fn new(setting: &Setting) -> Self {
        Self {
            slots: setting.slots,
            min: setting.min,
            max: setting.max,
            utilization: Window::new(PERIOD as usize),
            told: None,
            behaviour: Behaviour::default(),
        }
    }
}

impl Policy for Hpa {
    fn tick(&mut self, seen: &Seen) -> u32 {
        if seen.ready > 0 {
            self.utilization.push(seen.busy / (f64::from(seen.ready) * self.slots));
        }
        if !seen.second.is_multiple_of(PERIOD) {
            return seen.size;
        }
        let fresh = self.utilization.mean();
        let told = self.told.replace(fresh).unwrap_or(fresh);
        let wish = wish(told / TARGET, seen.ready, seen.size);
        self.behaviour.bound(seen.second, seen.size, wish, self.min, self.max)
    }
}

/// The replica calculator. `ratio`: mean utilization of the ready pods over the target.
fn wish(ratio: f64, ready: u32, size: u32) -> u32 {
    let starting = size - ready;
    if starting == 0 || ratio <= 1.0 {
        let steady = (ratio - 1.0).abs() <= TOLERANCE + 1e-9;
        return if steady { size } else { ceil(ratio * f64::from(ready)) };
    }
    // Those that start are taken to use nothing.
    let ratio = ratio * f64::from(ready) / f64::from(size);
    if (ratio - 1.0).abs() <= TOLERANCE + 1e-9 || ratio < 1.0 {
        return size;
    }
    ceil(ratio * f64::from(size)).max(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation's: 200m of 100m doubles, 50m of 100m halves.
    #[test]
    fn the_documented_examples() {
        assert_eq!(wish(2.0, 3, 3), 6);
        assert_eq!(wish(0.5, 4, 4), 2);
        assert_eq!([wish(1.1, 10, 10), wish(0.9, 10, 10), wish(1.11, 10, 10)], [10, 10, 12]);
    }

    #[test]
    fn pods_that_start_damp_the_way_up_only() {
        // 3 of 5 are ready at 100 %: (3 × 1 + 2 × 0) ÷ 0.7 = 4.3, fewer than there are.
        assert_eq!(wish(1.0 / 0.7, 3, 5), 5);
        assert_eq!(wish(3.0, 3, 5), 9);
        assert_eq!(wish(0.5, 4, 6), 2);
    }

    #[test]
    fn it_looks_every_15_s_at_what_was_15_s_ago() {
        let mut hpa = Hpa::new(&Setting::standard(30.0));
        let mut sizes = Vec::new();
        for second in 0..=60 {
            let busy = if second < 16 { 8.4 } else { 12.0 };
            sizes.push(hpa.tick(&Seen { second, busy, ready: 3, size: 3, ..Seen::default() }));
        }
        // Full since second 16; the mean of 16 to 30 is read at 45.
        assert_eq!([sizes[30], sizes[44], sizes[45]], [3, 3, 5]);
        assert!(sizes[46..60].iter().all(|size| *size == 3), "only every 15 s");
    }
}
