//! Trying: one backend after another, until one answers or nothing more may be tried.
//!
//! What is provably unsent is resent whatever its method and costs nothing of the retry budget:
//! a backend that got no byte of it did no work for it. What may have been seen is sent again only as
//! `[service.NAME.retry]` allows. A backend that was tried is never tried again.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderValue, Response};
use smallvec::SmallVec;

use crate::balance::Pick;
use crate::clock::Micros;
use crate::config::types::{HostRule, Priority};
use crate::http::fault::Fault;
use crate::http::headers;
use crate::telemetry::RetryReason;
use crate::upstream::admission::Share;
use crate::upstream::body::{RequestBody, Upload};
use crate::upstream::conn::{AnswerBody, Conn};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::resend;
use crate::worker::context::Worker;
use crate::worker::local::LocalService;

use super::admitting;
use super::affinity::Affinity;
use super::attempt::{self, Asks, Failed, Slot, Unanswered};
use super::ejection;
use super::exchange::{Exchange, Held};
use super::failure;
use super::hedge::{self, Hedged};
use super::waiting;

/// Upper bound of the random wait before a retry (it doubles with each one up to this).
const LONGEST_BACKOFF: Duration = Duration::from_millis(250);

/// A backend's answer, with what is held at that backend.
pub struct Answer {
    pub response: Box<Response<AnswerBody>>,
    pub held: Held,
    /// How often it was sent again before this.
    pub retries: u32,
    /// When its head came.
    pub at: Micros,
}

/// What is to be sent, and how often it may be.
pub struct Sending {
    pub request: Slot,
    /// What `host = "preserve"` sends.
    pub host: Option<HeaderValue>,
    /// The request has it until it is first sent.
    pub host_in_place: bool,
    pub client: IpAddr,
    /// Who goes first when capacity is short.
    pub class: Priority,
    /// It was let in while the service is overloaded.
    pub share: Option<Share>,
    pub affinity: Affinity,
    /// It asks for another protocol.
    pub upgrade: bool,
}

/// `uid`s of the backends that a request was sent to.
pub type Tried = SmallVec<[u64; 4]>;

/// Tries until there is an answer.
pub async fn run(
    exchange: &Exchange,
    routed: &Rc<LocalService>,
    sending: &mut Sending,
) -> Result<Answer, Fault> {
    let worker = &exchange.client.worker;
    let mut service = routed.clone();
    let config = &routed.view.config;
    let retry = &config.retry;
    let idempotent = retry.methods.contains(exchange.method());
    let mut tried = Tried::new();
    // What the try before came to, in case there is no other backend. Boxed: it is rare.
    let mut outcome: Option<Box<Result<Answer, Fault>>> = None;
    let mut retries = 0;
    loop {
        let now = if retries == 0 { exchange.started } else { worker.now() };
        if tried.is_empty() && sending.share.is_none() && service.view.admission.is_on() {
            let entered = admitting::enter(exchange, &service, sending, now);
            sending.share = Some(entered.map_err(|fault| *fault)?);
        }
        // Who comes later does not go before those that wait.
        let held = match tried.is_empty() && waiting::must_wait(&service) {
            true => None,
            false => pick(exchange, &service, sending, &tried, now),
        };
        let mut held = match (held, outcome.take()) {
            (Some(held), _) => held,
            (None, before) => match (later(worker, &service), before) {
                (Some(latest), before) => {
                    (service, outcome) = (latest, before);
                    continue;
                }
                (None, Some(before)) => return *before,
                (None, None) => Box::pin(waiting::wait(exchange, &mut service, sending)).await?,
            },
        };
        tried.push(held.backend.backend.uid);
        let preserves = held.service().view.config.host == HostRule::Preserve;
        if !(preserves && sending.host_in_place && tried.len() == 1)
            && let Some(request) = sending.request.get_mut()
        {
            set_host(request, sending.host.as_ref(), &held);
        }
        let more = retries < retry.attempts;
        let asks = Asks { keep_head: more && idempotent, upgrade: sending.upgrade, idempotent };
        // The answer of another backend would end a session where it is.
        let stays = sending.affinity.session.is_some();
        let wait = if stays { None } else { hedge::wait(exchange, &service, asks) };
        let sent = match wait {
            None => attempt::send(&exchange.to_try(), &mut held, &sending.request, asks).await,
            Some(wait) => {
                let hedged = Hedged { exchange, service: &service, sending, asks, wait };
                Box::pin(hedge::send(hedged, &mut held, &mut tried, &mut retries)).await
            }
        };
        let more = retries < retry.attempts;
        let (result, why) = match sent {
            Ok((response, at)) => {
                let status = response.status().as_u16();
                let answer = Answer { response, held, retries, at };
                if !asks.keep_head || !retry.on.statuses.contains(&status) {
                    return Ok(answer);
                }
                let head = answer.held.conn.as_ref().and_then(Conn::take_head);
                sending.request = RefCell::new(again(exchange.upload.as_ref(), head));
                (Ok(answer), Unanswered::Status(status))
            }
            Err(Failed { fault, why }) => (Err(fault), why),
        };
        let allowed = more && failure::may_retry(&retry.on, &why) && !exchange.overdue();
        if !allowed || sending.request.get_mut().is_none() || !has_another(&service, &tried) {
            return result;
        }
        let stats = service.view.stats.of(worker.id);
        let was_sent = !matches!(why, Unanswered::NotConnected(_) | Unanswered::Refused);
        let budget = &service.view.budget;
        if was_sent && !budget.withdraw(worker.now(), retry.budget, retry.budget_min) {
            stats.retries_denied.inc();
            return result;
        }
        let result = Box::new(result);
        if was_sent {
            back_off(exchange, retry.backoff, retries).await;
            if exchange.overdue() {
                // What there is says more than that there was no time for another.
                return *result;
            }
        }
        outcome = Some(result);
        stats.retries.inc(why.reason());
        retries += 1;
        // Backends may have come or gone meanwhile.
        let local = worker.local();
        if let Some(latest) = local.service_named(&config.name) {
            service = latest.clone();
        }
    }
}

/// The service as it is now, if that is not what `service` is: backends may have come since the request
/// was routed, or without this worker having heard of them.
fn later(worker: &Worker, service: &Rc<LocalService>) -> Option<Rc<LocalService>> {
    worker.catch_up();
    let local = worker.local();
    let latest = local.service_named(&service.view.config.name)?;
    (!Rc::ptr_eq(latest, service)).then(|| latest.clone())
}

/// Sets the Host that a backend is to get.
pub(super) fn set_host(request: &mut Outgoing, preserved: Option<&HeaderValue>, held: &Held) {
    let (rule, own) = (&held.service().view.config.host, &held.backend.backend.authority);
    headers::set_host(request.headers_mut(), rule, preserved, own);
}

/// Whether there is anybody to try next; if not, nothing is taken of the budget and no time lost.
pub(super) fn has_another(service: &LocalService, tried: &[u64]) -> bool {
    let backends = service.view.backends.iter().map(|member| &member.backend);
    backends.into_iter().any(|b| b.gate.is_available() && !tried.contains(&b.uid))
}

/// A place at a backend that was not tried yet.
pub(super) fn pick(
    exchange: &Exchange,
    service: &Rc<LocalService>,
    sending: &Sending,
    tried: &[u64],
    now: Micros,
) -> Option<Held> {
    let worker = &exchange.client.worker;
    if service.view.outliers.is_due(now)
        && tried.is_empty()
        && let Some(index) =
            ejection::probe(exchange, service, sending.affinity.session.is_some(), now)
    {
        let mut held = Held::new(service, index, worker.id, now);
        held.probe = true;
        return Some(held);
    }
    let index = {
        let mut rng = worker.rng.borrow_mut();
        let Affinity { key, session, .. } = sending.affinity;
        let pick = Pick { now, client: sending.client, key, session, tried };
        service.balancer.borrow_mut().pick(&service.view, &pick, &mut rng)?
    };
    Some(Held::new(service, index, worker.id, now))
}

async fn back_off(exchange: &Exchange, base: Duration, retries: u32) {
    let worker = &exchange.client.worker;
    let wait = backoff(base, retries, &mut worker.rng.borrow_mut());
    exchange.arm(worker.now(), wait);
    exchange.timer.expired().await;
}

/// Full jitter: U(0, min(250 ms, base · 2ⁿ)).
fn backoff(base: Duration, retries: u32, rng: &mut fastrand::Rng) -> Duration {
    let most = base.saturating_mul(1 << retries.min(10)).min(LONGEST_BACKOFF);
    Duration::from_micros(rng.u64(..=most.as_micros() as u64))
}

/// The request once more, from its kept head and its kept body.
pub(super) fn again(upload: Option<&Rc<Upload>>, head: Option<Vec<u8>>) -> Option<Box<Outgoing>> {
    let body = match upload {
        None => RequestBody::empty(),
        Some(upload) if upload.can_resend() => upload.body(),
        Some(_) => return None,
    };
    Some(Box::new(resend::request(&head?, body)?.into()))
}

impl Unanswered {
    fn reason(&self) -> RetryReason {
        match self {
            Self::NotConnected(_) => RetryReason::Connect,
            Self::Refused => RetryReason::Refused,
            Self::Reset | Self::BadAnswer => RetryReason::Reset,
            Self::TimedOut => RetryReason::Timeout,
            Self::Status(_) => RetryReason::Status,
            Self::Client => RetryReason::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Anything from nothing to the whole, which doubles each time up to a quarter of a second.
        #[test]
        fn back_off_is_full_jitter(base in 0_u64..1000, retries in 0_u32..40, seed: u64) {
            let most = (base << retries.min(30)).min(250) as f64;
            let mut rng = fastrand::Rng::with_seed(seed);
            let waits = (0..400).map(|_| backoff(Duration::from_millis(base), retries, &mut rng));
            let waits: Vec<f64> = waits.map(|wait| wait.as_secs_f64() * 1e3).collect();
            prop_assert!(waits.iter().all(|wait| *wait <= most));
            let mean = waits.iter().sum::<f64>() / 400.0;
            // Seven standard errors.
            prop_assert!((mean - most / 2.0).abs() <= 0.1 * most, "{mean} of {most}");
        }
    }
}
