//! How many requests wait for a place, and how long each does.
//!
//! It follows CoDel (RFC 8289) as far as a queue of requests can: up to `queue_timeout`, but only a moment once the
//! queue has not been empty for that long, for then it is not a burst that waits but more than can be served. Whoever
//! goes before the others waits longer, and so do all while the scaler brings capacity: what is refused then would have
//! been served a moment later.

use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::{Overload, QueueLimit};
use crate::upstream::gate::State;
use crate::worker::local::LocalService;

use super::waiting::MODEST;

/// How long one waits in a congested queue, at least.
const MOMENT: Duration = Duration::from_millis(5);
/// And for so many answers, where these are rare: a place that becomes free must find somebody.
const ANSWERS: f64 = 3.0;
/// And as long as the backends work at what they have too many of, up to this.
const LONGEST: Duration = Duration::from_secs(30);

/// What a request that joins the queue now is held to.
pub(super) struct Terms {
    /// Most that may wait.
    pub most: u32,
    /// It goes before those that came earlier.
    pub congested: bool,
    /// How long it waits.
    pub patience: Duration,
}

impl Terms {
    /// `rank`: the lowest goes first. `available`: backends that take requests.
    pub fn of(service: &LocalService, rank: u8, available: u32, now: Micros) -> Self {
        let view = &service.view;
        let overload = &view.config.overload;
        let limit = overload.queue_timeout;
        let given = view.config.max_in_flight;
        let rate = view.admission.rate();
        // A learned limit of a few requests must not turn away what would be served within the time.
        let served = if rate.is_finite() { (rate * limit.as_secs_f64()) as u32 } else { 0 };
        let room = match given {
            0 => overload.queue.requests(view.admission.places().max(served.saturating_mul(2))),
            given => overload.queue.requests(available.saturating_mul(given)),
        };
        // A number that was given is meant.
        let auto = overload.queue == QueueLimit::Auto;
        let twice = if auto { room.saturating_mul(2) } else { room };
        let long = || overload.patience() + backlog(service, rate).min(LONGEST);
        if let Some(times) = view.admission.expected(now) {
            let each = if served > 0 { served } else { room };
            // What will be served within that time.
            let all = f64::from(each) * f64::from(Overload::PATIENT) * times;
            let most = if auto { twice.max(all as u32) } else { room };
            return Self { most, congested: false, patience: long() };
        }
        if given > 0 {
            return Self { most: room, congested: false, patience: limit };
        }
        // Critical ones and those of clients that have little go before all others: they are to find neither the queue
        // full of these, nor their time over before what the backends had taken on is done.
        if rank <= MODEST {
            return Self { most: twice, congested: false, patience: long() };
        }
        // More capacity is on its way, if not soon: then it is worth to wait for it.
        let is_coming = |state| matches!(state, State::Pending | State::Starting);
        if view.backends.iter().any(|member| is_coming(member.backend.gate.state())) {
            return Self { most: twice, congested: false, patience: limit };
        }
        let congested = view.queue.is_congested(limit.as_micros() as Micros, now);
        let moment = MOMENT.max(Duration::from_secs_f64(ANSWERS / rate.max(1e-3)));
        let patience = if congested { moment.min(limit) } else { limit };
        Self { most: room, congested, patience }
    }
}

/// How long the backends work at what they have beyond their limits, which they had taken on before these were known.
fn backlog(service: &LocalService, rate: f64) -> Duration {
    let beyond = service.view.backends.iter().map(|member| {
        let backend = &member.backend;
        match backend.limit.most() {
            0 => 0,
            most => u64::from(backend.gate.in_flight().saturating_sub(most)),
        }
    });
    Duration::from_secs_f64(beyond.sum::<u64>() as f64 / rate.max(1.0))
}
