//! Waiting for a place: what a request does while every backend has as many as it may.
//!
//! Only first tries wait; a retry has an answer to give already. Whose turn it is, is `upstream::queue`'s; how many wait
//! and how long, `patience`'s.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::Priority;
use crate::http::fault::{Busy, Fault};
use crate::worker::local::LocalService;

use super::exchange::{Exchange, Held};
use super::failure;
use super::holding;
use super::patience::Terms;
use super::tries::{self, Sending};

/// Rank of normal requests of clients that have little under way.
pub(super) const MODEST: u8 = 1;

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
    let mut limit = terms.patience;
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
        loop {
            ready!(exchange.timer.poll_expired(cx));
            let now = worker.now();
            if exchange.overdue() {
                let after = Duration::from_micros(now.saturating_sub(began));
                let service = config.name.clone();
                return Poll::Ready(Err(Fault::QueueRouteTimeout { service, after }));
            }
            // More may be expected by now than when it came.
            let terms = Terms::of(service, rank, available, now);
            let end = began + terms.patience.as_micros() as Micros;
            if end <= now {
                let why = Busy::Waited { limit, waiting: waiting.depth() };
                let service = config.name.clone();
                return Poll::Ready(Err(Fault::Overloaded { service, why }));
            }
            limit = terms.patience;
            exchange.arm(now, Duration::from_micros(end - now));
        }
    })
    .await;
    drop(watched);
    exchange.timer.disarm();
    let stats = service.view.stats.of(worker.id);
    stats.queue_wait.record(worker.now().saturating_sub(began));
    result
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
