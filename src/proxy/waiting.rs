//! Waiting for a place: what a request does while every backend has as many as it may.
//!
//! Only first tries wait; a retry has an answer to give already. Whose turn it is, is `upstream::queue`'s. How long one
//! waits follows CoDel (RFC 8289) as far as a queue of requests can: up to `queue_timeout`, but only a moment once
//! the queue has not been empty for that long, for then it is not a burst that waits but more than can be served.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::{Priority, QueueLimit};
use crate::http::fault::{Busy, Fault};
use crate::upstream::gate::State;
use crate::worker::local::LocalService;

use super::exchange::{Exchange, Held};
use super::failure;
use super::holding;
use super::tries::{self, Sending};

/// How long one waits in a congested queue, at least.
const MOMENT: Duration = Duration::from_millis(5);
/// Those who go before all others may wait so many times longer: it takes an overload that has just begun.
const PATIENT: u32 = 10;
/// And as long as the backends work at what they have too many of, up to this.
const LONGEST: Duration = Duration::from_secs(30);
/// Rank of normal requests of clients that have little under way.
const MODEST: u8 = 1;
/// And for so many answers, where these are rare: a place that becomes free must find somebody.
const ANSWERS: f64 = 3.0;

/// Whether places may be short.
#[inline]
pub fn is_limited(service: &LocalService) -> bool {
    service.view.config.max_in_flight > 0 || service.view.admission.places() > 0
}

/// Whether there are others before a request that comes now.
#[inline]
pub fn must_wait(service: &LocalService) -> bool {
    let view = &service.view;
    (is_limited(service) || view.hold.is_some()) && view.queue.depth() > 0
}

/// Waits until there is a place at a backend, and takes it. `service` is its latest state afterwards.
///
/// # Errors
/// Nobody is available, the queue is full, `queue_timeout` or the route's timeout is over.
pub async fn wait(
    exchange: &Exchange,
    service: &mut Rc<LocalService>,
    sending: &Sending,
) -> Result<Held, Fault> {
    let config = service.view.config.clone();
    let available = available(service);
    if let Some(hold) = holding::applies(service, available) {
        return Box::pin(holding::wait(exchange, service, sending, hold)).await;
    }
    let worker = &exchange.client.worker;
    let began = worker.now();
    let rank = rank(sending);
    let terms = Terms::of(service, rank, available, began);
    let waiting = match available {
        0 => None,
        _ => service.line.join(terms.most, rank, terms.congested, began),
    };
    let Some(waiting) = waiting else { return Err(failure::no_backend(service)) };
    let limit = terms.patience;
    exchange.arm(began, limit);
    let watched = exchange.client.watch_departure();
    let result = poll_fn(|cx| {
        if waiting.poll_turn(cx) {
            // What the worker knows by now.
            match worker.local().service_named(&config.name) {
                Some(latest) => *service = latest.clone(),
                // It was removed. Its backends are on their way out.
                None => return Poll::Ready(Err(failure::no_backend(service))),
            }
            if let Some(held) = tries::pick(exchange, service, sending, &[], worker.now()) {
                return Poll::Ready(Ok(held));
            }
            if self::available(service) == 0 {
                return Poll::Ready(Err(failure::no_backend(service)));
            }
        }
        exchange.timer.poll_expired(cx).map(|()| {
            let service = config.name.clone();
            Err(match exchange.overdue() {
                true => {
                    let after = Duration::from_micros(worker.now().saturating_sub(began));
                    Fault::QueueRouteTimeout { service, after }
                }
                false => {
                    let why = Busy::Waited { limit, waiting: waiting.depth() };
                    Fault::Overloaded { service, why }
                }
            })
        })
    })
    .await;
    drop(watched);
    exchange.timer.disarm();
    let stats = service.view.stats.of(worker.id);
    stats.queue_wait.record(worker.now().saturating_sub(began));
    result
}

/// What a request that joins the queue now is held to.
struct Terms {
    /// Most that may wait.
    most: u32,
    congested: bool,
    patience: Duration,
}

impl Terms {
    fn of(service: &LocalService, rank: u8, available: u32, now: Micros) -> Self {
        let view = &service.view;
        let overload = &view.config.overload;
        let limit = overload.queue_timeout;
        let most = view.config.max_in_flight;
        if most > 0 {
            let most = overload.queue.requests(available.saturating_mul(most));
            return Self { most, congested: false, patience: limit };
        }
        let rate = view.admission.rate();
        // A learned limit of a few requests must not turn away what would be served within the time.
        let served = if rate.is_finite() { (rate * limit.as_secs_f64()) as u32 } else { 0 };
        let places = view.admission.places();
        let mut most = overload.queue.requests(places.max(served.saturating_mul(2)));
        // A number that was given is meant.
        let more = if overload.queue == QueueLimit::Auto { 2 } else { 1 };
        // Critical ones and those of clients that have little go before all others: they are to find neither the queue
        // full of these, nor their time over before what the backends had taken on is done.
        if rank <= MODEST {
            most = most.saturating_mul(more);
            let patience = limit.saturating_mul(PATIENT) + backlog(service, rate).min(LONGEST);
            return Self { most, congested: false, patience };
        }
        // More capacity is on its way: then it is worth to wait for it.
        let is_coming = |state| matches!(state, State::Pending | State::Starting);
        if view.backends.iter().any(|member| is_coming(member.backend.gate.state())) {
            most = most.saturating_mul(more);
            return Self { most, congested: false, patience: limit };
        }
        let congested = view.queue.is_congested(limit.as_micros() as Micros, now);
        let moment = MOMENT.max(Duration::from_secs_f64(ANSWERS / rate.max(1e-3)));
        let patience = if congested { moment.min(limit) } else { limit };
        Self { most, congested, patience }
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

/// The lowest goes first.
fn rank(sending: &Sending) -> u8 {
    let modest = sending.share.as_ref().is_some_and(|share| share.is_modest());
    let class = match sending.class {
        Priority::Critical => return 0,
        Priority::Normal => 2,
        Priority::Sheddable => 4,
    };
    class - u8::from(modest)
}

/// How many backends take requests, full or not; 0: waiting would be for nothing.
pub fn available(service: &LocalService) -> u32 {
    let gates = || service.view.backends.iter().map(|member| &member.backend.gate);
    match gates().filter(|gate| gate.is_available()).count() {
        // In panic health is ignored.
        0 if service.view.config.panic_threshold > 0.0 => {
            gates().filter(|gate| gate.is_ready()).count() as u32
        }
        // Then those that are only ejected serve.
        0 => gates().filter(|gate| gate.is_healthy_and_ready()).count() as u32,
        available => available as u32,
    }
}
