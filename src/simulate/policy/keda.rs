//! KEDA's HTTP add-on: requests in flight through an HPA of an external metric, 70 % of the slots.
//!
//! Source: KEDA HTTP add-on documentation (`scalingMetric.concurrency`: the requests in flight at
//! the interceptors, those that wait included) and the HPA's rule for `AverageValue`: ceil(metric ÷ target), nothing
//! within 10 %. The metric is what is in flight when it is asked for, every 15 s, not a mean.

use super::behaviour::Behaviour;
use super::{Policy, Seen, Setting, ceil};

const PERIOD: u64 = 15;
const UTILIZATION: f64 = 0.7;
const TOLERANCE: f64 = 0.1;

#[derive(Debug)]
pub(super) struct KedaHttp {
    /// `targetValue`, in requests in flight per pod.
    target: f64,
    min: u32,
    max: u32,
    behaviour: Behaviour,
}

impl KedaHttp {
    pub(super) fn new(setting: &Setting) -> Self {
        Self {
            target: UTILIZATION * setting.slots,
            min: setting.min,
            max: setting.max,
            behaviour: Behaviour::default(),
        }
    }

    fn wish(&self, in_flight: f64, size: u32) -> u32 {
        let ratio = in_flight / (self.target * f64::from(size.max(1)));
        let steady = (ratio - 1.0).abs() <= TOLERANCE + 1e-9;
        if steady { size } else { ceil(in_flight / self.target) }
    }
}

impl Policy for KedaHttp {
    fn tick(&mut self, seen: &Seen) -> u32 {
        if !seen.second.is_multiple_of(PERIOD) {
            return seen.size;
        }
        let wish = self.wish(seen.in_flight(), seen.size);
        self.behaviour.bound(seen.second, seen.size, wish, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_value_divides_what_is_in_flight() {
        let keda = KedaHttp::new(&Setting::standard(30.0));
        assert_eq!(keda.wish(28.0, 5), 10);
        assert_eq!(keda.wish(28.0, 10), 10);
        assert_eq!(keda.wish(30.0, 10), 10, "7 % over: within the tolerance");
        assert_eq!(keda.wish(2.0, 10), 1);
    }
}
