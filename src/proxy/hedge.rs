//! Hedging: a request whose answer takes long goes to a second backend, and the first answer counts.
//!
//! Long is longer than 95 of 100 answers of the service lately took (Dean and Barroso, "The Tail at Scale", 2013).
//! Only GET and HEAD without a body, only first tries, no request of a sticky session, at most 5 % of them, and each costs a retry of the budget. The
//! slower one is given up: its place is given back and its connection closed. That is no failure of its backend.
//!
//! A copy of the request is made when it is needed, from where it is then: not sent yet, or from its head as it was
//! written. So a request that is answered in time pays for a timer only.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use http::Method;

use crate::clock::Micros;
use crate::config::types::{Balance, Hedge};
use crate::telemetry::RetryReason;
use crate::upstream::body::RequestBody;
use crate::upstream::conn::Kept;
use crate::upstream::resend;
use crate::worker::local::LocalService;

use super::attempt::{self, Asks, Failed, Sent, Slot, Try};
use super::exchange::{Exchange, Held};
use super::failure;
use super::tries::{self, Sending, Tried};

/// Most of the requests that may be hedged at all.
const SHARE: f64 = 0.05;

/// A request that may be sent to a second backend.
pub struct Hedged<'a> {
    pub exchange: &'a Exchange,
    pub service: &'a Rc<LocalService>,
    pub sending: &'a mut Sending,
    pub asks: Asks,
    /// In µs from when it was sent.
    pub wait: Micros,
}

/// How long a request waits before it is hedged; `None`: it never is.
#[inline]
pub fn wait(exchange: &Exchange, service: &LocalService, asks: Asks) -> Option<Micros> {
    match service.view.config.retry.hedge {
        Hedge::Off => None,
        Hedge::P95 => p95(exchange, service, asks),
    }
}

#[cold]
fn p95(exchange: &Exchange, service: &LocalService, asks: Asks) -> Option<Micros> {
    let may = matches!(*exchange.method(), Method::GET | Method::HEAD)
        && exchange.upload.is_none()
        && asks.keep_head
        && !asks.upgrade;
    if !may {
        return None;
    }
    let (view, now) = (&service.view, exchange.started);
    view.hedges.request(now);
    // Else each pick does.
    if view.config.balance != Balance::Adaptive && view.peers.is_due(now, view.backends.len()) {
        let backends = view.backends.iter().map(|member| &member.backend);
        let backends = backends.map(|b| (&b.learned, b.gate.is_available()));
        view.peers.look(service.observer.borrow_mut().get_or_insert_default(), backends, now);
    }
    view.peers.p95()
}

/// Sends it to the backend that is held, and to another one if that takes long. Who answered is held afterwards;
/// both are among the tried.
pub async fn send(
    hedged: Hedged<'_>,
    held: &mut Held,
    tried: &mut Tried,
    retries: &mut u32,
) -> Result<Sent, Failed> {
    let Hedged { exchange, service, sending, asks, wait } = hedged;
    let worker = &exchange.client.worker;
    let timer = worker.timers.timer();
    let kept = Cell::new(None);
    // Who will have answered is not known before.
    let with = Try { kept: Some(&kept), informs: None, ..exchange.to_try() };
    timer.arm(held.since.saturating_add(wait));
    let mut other;
    let end = {
        let mut first = pin!(attempt::send(&with, held, &sending.request, asks));
        let in_time = poll_fn(|cx| match first.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => timer.poll_expired(cx).map(|()| None),
        });
        if let Some(result) = in_time.await {
            return result;
        }
        timer.disarm();
        other = another(exchange, service, sending, kept.take(), tried);
        let Some((held, slot)) = &mut other else { return first.await };
        *retries += 1;
        let with = Try { timer: &timer, kept: None, ..with };
        let second = pin!(attempt::send(&with, held, slot, asks));
        let again = &service.view.config.retry.on.statuses;
        race(first, second, |sent| !again.contains(&sent.0.status().as_u16())).await
    };
    match (end.who, other) {
        (Who::Second, Some((second, slot))) => {
            let first = std::mem::replace(held, second);
            if end.alone {
                failure::outlasted(&first, worker.now());
            }
            sending.request = slot;
            // The first may have left it armed.
            exchange.timer.disarm();
        }
        // The other one was sent later: that it has not answered says nothing.
        (_, other) => drop(other),
    }
    end.result
}

/// A place at another backend with a copy of the request, if it may be hedged now.
fn another(
    exchange: &Exchange,
    service: &Rc<LocalService>,
    sending: &Sending,
    kept: Option<Kept>,
    tried: &mut Tried,
) -> Option<(Held, Slot)> {
    let worker = &exchange.client.worker;
    let (view, now) = (&service.view, worker.now());
    if exchange.overdue() || !tries::has_another(service, tried) {
        return None;
    }
    let mut request = match &*sending.request.borrow() {
        Some(unsent) => unsent.copy(),
        None => resend::request(&kept?.copy_head()?, RequestBody::empty())?.into(),
    };
    let retry = &view.config.retry;
    let stats = view.stats.of(worker.id);
    if !view.hedges.withdraw(now, SHARE, 0) {
        return None;
    }
    if !view.budget.withdraw(now, retry.budget, retry.budget_min) {
        stats.retries_denied.inc();
        return None;
    }
    let held = tries::pick(exchange, service, sending, tried, now)?;
    tries::set_host(&mut request, sending.host.as_ref(), &held);
    tried.push(held.backend.backend.uid);
    stats.retries.inc(RetryReason::Hedge);
    Some((held, RefCell::new(Some(Box::new(request)))))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    First,
    Second,
}

struct End {
    who: Who,
    /// The other one has come to nothing yet.
    alone: bool,
    result: Result<Sent, Failed>,
}

/// The first good result of two; if none is, an answer rather than a failure, and else the later one.
async fn race(
    mut first: Pin<&mut impl Future<Output = Result<Sent, Failed>>>,
    mut second: Pin<&mut impl Future<Output = Result<Sent, Failed>>>,
    is_good: impl Fn(&Sent) -> bool,
) -> End {
    let mut bad: Option<(Who, Result<Sent, Failed>)> = None;
    poll_fn(|cx| {
        for who in [Who::First, Who::Second] {
            if bad.as_ref().is_some_and(|(which, _)| *which == who) {
                continue;
            }
            let polled = match who {
                Who::First => first.as_mut().poll(cx),
                Who::Second => second.as_mut().poll(cx),
            };
            let Poll::Ready(result) = polled else { continue };
            let good = result.as_ref().is_ok_and(&is_good);
            match bad.take() {
                None if good => return Poll::Ready(End { who, alone: true, result }),
                None => bad = Some((who, result)),
                Some((which, before)) if before.is_ok() && result.is_err() => {
                    return Poll::Ready(End { who: which, alone: false, result: before });
                }
                Some(_) => return Poll::Ready(End { who, alone: false, result }),
            }
        }
        Poll::Pending
    })
    .await
}
