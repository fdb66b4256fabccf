//! Families about requests that wait, and what keeps them waiting.

use super::Metrics;
use super::text::{Encoder, Kind};

impl Metrics<'_> {
    pub(super) fn waiting(&self, to: &mut Encoder) {
        let help = "Requests that wait for a place at a backend.";
        let mut family = to.family("tidegate_queue_depth", Kind::Gauge, help);
        for service in &self.services {
            family.sample(&[("service", service.name)], service.queued);
        }
        let help = "Requests a second that are let in, which follows what the backends answer; absent: as many as come.";
        let mut family = to.family("tidegate_admitted_rate", Kind::Gauge, help);
        for service in self.services.iter().filter(|service| service.rate.is_finite()) {
            family.sample(&[("service", service.name)], service.rate);
        }
        let help = "Requests that wait for a backend to be started, where none runs.";
        let mut family = to.family("tidegate_held_requests", Kind::Gauge, help);
        for service in &self.services {
            family.sample(&[("service", service.name)], service.held);
        }
        let help = "Time that requests waited for a place at a backend.";
        let mut family = to.family("tidegate_queue_wait_seconds", Kind::Histogram, help);
        for service in &self.services {
            if let Some(wait) = service.queue_wait {
                family.histogram(&[("service", service.name)], wait);
            }
        }
    }
}
