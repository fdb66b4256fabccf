//! What is simulated: backends that are all alike, and the objective.

use super::erlang;

/// Requests that wait longer than this are dropped, in seconds.
pub const PATIENCE: f64 = 10.0;
/// Share of requests that may wait longer than the budget, for who knows the rate.
const ORACLE_LATE: f64 = 0.01;
/// Utilisation that who knows the rate stays under.
const ORACLE_LOAD: f64 = 0.9;

/// The service under test.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Requests that one backend works on at once.
    pub slots: f64,
    /// Mean time a request takes in a slot, in seconds.
    pub service: f64,
    /// Longest wait for a slot that is no violation, in seconds.
    pub wait: f64,
    /// Time from the order of a backend to its first request, in seconds.
    pub lead: f64,
    pub min: u32,
    pub max: u32,
    /// Requests/s that something behind all backends gets done at most: a database.
    pub shared: Option<f64>,
}

impl Setting {
    /// The service of the published table (docs/scaling.md): 4 slots, 100 ms, 250 ms of waiting.
    pub fn standard(lead: f64) -> Self {
        Self { slots: 4.0, service: 0.1, wait: 0.25, lead, min: 2, max: 60, shared: None }
    }

    /// Requests per second that so many backends can serve.
    pub fn capacity(&self, ready: u32) -> f64 {
        let own = f64::from(ready) * self.slots / self.service;
        self.shared.map_or(own, |shared| shared.min(own))
    }

    /// The least backends that hold a rate: at most 90 % busy, and at most 1 % of requests wait
    /// longer than the budget. Within the minimum and the maximum.
    pub fn need(&self, rate: f64) -> u32 {
        let offered = rate * self.service;
        let least = (offered / (self.slots * ORACLE_LOAD) - 1e-9).ceil() as u32;
        let mut n = least.max(self.min).max(1);
        while n < self.max {
            let servers = f64::from(n) * self.slots;
            if erlang::waits_longer(servers, offered, self.service, self.wait) <= ORACLE_LATE {
                break;
            }
            n += 1;
        }
        if rate <= 0.0 { self.min } else { n.min(self.max) }
    }

    /// What Knative's arithmetic at 70 % holds for a rate: where every policy starts.
    pub fn start(&self, rate: f64) -> u32 {
        let n = (rate * self.service / (0.7 * self.slots) - 1e-9).ceil() as u32;
        n.clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_need_is_the_least_that_holds() {
        let setting = Setting::standard(30.0);
        assert_eq!([0.0, 60.0, 150.0, 1000.0, 1500.0].map(|r| setting.need(r)), [2, 2, 5, 28, 42]);
        assert_eq!(setting.need(1e6), 60);
        assert_eq!([60.0, 100.0, 150.0].map(|rate| setting.start(rate)), [3, 4, 6]);
    }
}
