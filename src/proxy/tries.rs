//! Trying: one backend after another, until one answers or nothing more may be tried.
//!
//! What is provably unsent is resent whatever its method and costs nothing of the retry budget:
//! a backend that got no byte of it did no work for it. What may have been seen is sent again only as
//! `[service.NAME.retry]` allows. A backend that was tried is never tried again.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use smallvec::SmallVec;

use crate::balance::Pick;
use crate::clock::Micros;
use crate::http::fault::Fault;
use crate::http::headers::{self, Received};
use crate::telemetry::RetryReason;
use crate::upstream::body::RequestBody;
use crate::upstream::conn::{AnswerBody, Conn};
use crate::upstream::resend;
use crate::worker::local::LocalService;

use super::attempt::{self, Asks, Failed, Unanswered};
use super::exchange::{Exchange, Held};
use super::failure;
use super::prepare::Prepared;

/// Upper bound of the random wait before a retry, in ms (it doubles with each one up to this).
const LONGEST_BACKOFF: u64 = 250;

/// A backend's answer, with what is held at that backend.
pub struct Answer {
    pub response: Response<AnswerBody>,
    pub held: Held,
    /// How often it was sent again before this.
    pub retries: u32,
    /// When its head came.
    pub at: Micros,
}

/// Tries until there is an answer.
pub async fn run(
    exchange: &Exchange,
    service: &Rc<LocalService>,
    received: &Received,
    prepared: Prepared,
    body: RequestBody,
) -> Result<Answer, Fault> {
    let worker = &exchange.client.worker;
    let config = service.view.config.clone();
    let retry = &config.retry;
    let Prepared { head, host } = prepared;
    let idempotent = retry.methods.contains(&head.method);
    let mut request = Request::from_parts(head, body);
    let mut service = service.clone();
    let mut tried: SmallVec<[u64; 4]> = SmallVec::new();
    // What the try before came to, in case there is no other backend.
    let mut outcome: Option<Result<Answer, Fault>> = None;
    let mut retries = 0;
    loop {
        let now = if retries == 0 { exchange.started } else { worker.now() };
        let Some(held) = pick(exchange, &service, received.client, &tried, now) else {
            return outcome.unwrap_or_else(|| Err(failure::no_backend(&service)));
        };
        drop(outcome.take());
        let backend = held.backend.backend.clone();
        tried.push(backend.uid);
        let rule = &service.view.config.host;
        headers::set_host(request.headers_mut(), rule, host.as_ref(), &backend.authority);
        let more = retries < retry.attempts;
        let asks = Asks { keep_head: more && idempotent, upgrade: received.upgrade, idempotent };
        let (result, why, again) = match attempt::send(exchange, held, request, asks).await {
            Ok(mut answer) => {
                answer.retries = retries;
                let status = answer.response.status().as_u16();
                if !asks.keep_head || !retry.on.statuses.contains(&status) {
                    return Ok(answer);
                }
                let head = answer.held.conn.as_ref().and_then(Conn::take_head);
                (Ok(answer), Unanswered::Status(status), again(exchange, head))
            }
            Err(Failed { fault, why, request }) => (Err(fault), why, request),
        };
        let allowed = more && failure::may_retry(&retry.on, &why) && !exchange.overdue();
        let allowed = allowed && has_another(&service, &tried);
        let Some(again) = again.filter(|_| allowed) else { return result };
        let stats = service.view.stats.of(worker.id);
        if !matches!(why, Unanswered::NotConnected(_)) {
            if !service.view.budget.withdraw(worker.now(), retry.budget, retry.budget_min) {
                stats.retries_denied.inc();
                return result;
            }
            back_off(exchange, retry.backoff, retries).await;
        }
        stats.retries.inc(why.reason());
        retries += 1;
        outcome = Some(result);
        request = again;
        // Backends may have come or gone meanwhile.
        let local = worker.local();
        if let Some(latest) = local.service_named(&service.view.config.name) {
            service = latest.clone();
        }
    }
}

/// Whether there is anybody to try next; if not, nothing is taken of the budget and no time lost.
fn has_another(service: &LocalService, tried: &[u64]) -> bool {
    let backends = service.view.backends.iter().map(|member| &member.backend);
    backends.into_iter().any(|b| b.gate.is_available() && !tried.contains(&b.uid))
}

/// A place at a backend that was not tried yet.
fn pick(
    exchange: &Exchange,
    service: &Rc<LocalService>,
    client: IpAddr,
    tried: &[u64],
    now: Micros,
) -> Option<Held> {
    let worker = &exchange.client.worker;
    let index = {
        let mut rng = worker.rng.borrow_mut();
        let pick = Pick { now, client, tried };
        service.balancer.borrow_mut().pick(&service.view, &pick, &mut rng)?
    };
    Some(Held::new(service, index, worker.id, now))
}

/// Full jitter: U(0, min(250 ms, base · 2ⁿ)).
async fn back_off(exchange: &Exchange, base: Duration, retries: u32) {
    let worker = &exchange.client.worker;
    let base = u64::try_from(base.as_millis()).unwrap_or(LONGEST_BACKOFF);
    let most = base.saturating_mul(1 << retries.min(10)).min(LONGEST_BACKOFF);
    let wait = Duration::from_micros(worker.rng.borrow_mut().u64(..=most * 1000));
    exchange.arm(worker.now(), wait);
    exchange.timer.expired().await;
}

/// The request once more, from its kept head and its kept body.
pub(super) fn again(exchange: &Exchange, head: Option<Vec<u8>>) -> Option<Request<RequestBody>> {
    let body = match &exchange.upload {
        None => RequestBody::empty(),
        Some(upload) if upload.can_resend() => upload.body(),
        Some(_) => return None,
    };
    resend::request(&head?, body)
}

impl Unanswered {
    fn reason(&self) -> RetryReason {
        match self {
            Self::NotConnected(_) => RetryReason::Connect,
            Self::Reset | Self::BadAnswer => RetryReason::Reset,
            Self::TimedOut => RetryReason::Timeout,
            Self::Status(_) => RetryReason::Status,
            Self::Client => RetryReason::Stale,
        }
    }
}
