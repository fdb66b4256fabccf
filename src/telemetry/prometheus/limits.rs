//! Families about the limits that are asked for: rates, bans, memory, and the Redis that counts with others.

use super::Metrics;
use super::text::{Encoder, Kind};

impl Metrics<'_> {
    pub(super) fn limits(&self, to: &mut Encoder) {
        let help = "Requests refused by a rate limit.";
        let mut family = to.family("tidegate_rate_limited_total", Kind::Counter, help);
        for limit in &self.limits {
            let labels = [("route", limit.route), ("limit", limit.name)];
            family.sample(&labels, limit.refused as f64);
        }
        let help = "Requests that a rate limit would have refused, but for its dry_run.";
        let mut family = to.family("tidegate_rate_limit_dry_run_total", Kind::Counter, help);
        for limit in &self.limits {
            let labels = [("route", limit.route), ("limit", limit.name)];
            family.sample(&labels, limit.dry_run as f64);
        }
        let help = "Keys that a rate limit counts apart.";
        let mut family = to.family("tidegate_rate_limit_keys", Kind::Gauge, help);
        for limit in &self.limits {
            let labels = [("route", limit.route), ("limit", limit.name)];
            family.sample(&labels, limit.keys as f64);
        }
        let help = "Requests of keys beyond max_keys, which share one bucket.";
        let mut family = to.family("tidegate_rate_limit_overflow_total", Kind::Counter, help);
        for limit in &self.limits {
            let labels = [("route", limit.route), ("limit", limit.name)];
            family.sample(&labels, limit.overflowed as f64);
        }
    }

    pub(super) fn bans(&self, to: &mut Encoder) {
        let help = "Addresses that are banned now.";
        to.family("tidegate_bans", Kind::Gauge, help).sample(&[], self.bans.active as f64);
        let help = "Bans that began.";
        let mut family = to.family("tidegate_bans_begun_total", Kind::Counter, help);
        family.sample(&[], self.bans.begun as f64);
        let help = "Requests refused because their client is banned.";
        let mut family = to.family("tidegate_banned_requests_total", Kind::Counter, help);
        family.sample(&[], self.bans.requests as f64);
    }

    pub(super) fn memory(&self, to: &mut Encoder) {
        let Some(memory) = &self.memory else { return };
        let mut gauge = |name, help, value: f64| {
            to.family(name, Kind::Gauge, help).sample(&[], value);
        };
        gauge("tidegate_memory_bytes", "Resident memory, as it was judged.", memory.bytes as f64);
        let limit = memory.limit_bytes as f64;
        gauge("tidegate_memory_limit_bytes", "runtime.max_memory.", limit);
        let help = "0: calm, 1: giving back, 2: sheddable requests refused, 3: only critical ones \
                    let in, 4: no new connections, 5: no requests.";
        gauge("tidegate_memory_level", help, f64::from(memory.level));
        let help = "Times that unused memory was given back for want of it.";
        let mut family = to.family("tidegate_memory_given_back_total", Kind::Counter, help);
        family.sample(&[], memory.given_back as f64);
    }

    pub(super) fn together(&self, to: &mut Encoder) {
        let Some(together) = &self.together else { return };
        let help = "Whether the Redis of shared limits answers.";
        let mut family = to.family("tidegate_shared_limits_up", Kind::Gauge, help);
        family.sample(&[], f64::from(u8::from(together.up)));
        let help = "Times that the Redis of shared limits failed, or took too long.";
        let mut family = to.family("tidegate_shared_limits_failures_total", Kind::Counter, help);
        family.sample(&[], together.failures as f64);
        let help = "Requests of shared limits that were counted here alone.";
        let mut family = to.family("tidegate_shared_limits_alone_total", Kind::Counter, help);
        family.sample(&[], together.alone as f64);
    }
}
