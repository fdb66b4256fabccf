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
use crate::http::headers::{self, Received};
use crate::http::respond::Fault;
use crate::telemetry::RetryReason;
use crate::upstream::body::RequestBody;
use crate::upstream::conn::AnswerBody;
use crate::upstream::resend;
use crate::worker::local::LocalService;

use super::attempt::{self, Failed, Unanswered};
use super::exchange::{Exchange, Held};
use super::failure;
use super::prepare::Prepared;

/// Upper bound of the random wait before a retry, in ms (it doubles with each one up to this).
const LONGEST_BACKOFF: u64 = 250;

/// A backend's answer, with what is held at that backend.
pub struct Answer {
    pub response: Response<AnswerBody>,
    pub held: Held,
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
    let retry = &service.view.config.retry;
    let Prepared { head, host } = prepared;
    let idempotent = retry.methods.contains(&head.method);
    let mut request = Request::from_parts(head, body);
    let mut service = service.clone();
    let mut tried: SmallVec<[u64; 4]> = SmallVec::new();
    let mut last: Option<Fault> = None;
    let mut retries = 0;
    loop {
        let Some(held) = pick(exchange, &service, received.client, &tried) else {
            return Err(last.unwrap_or_else(|| failure::no_backend(&service)));
        };
        let backend = held.backend.backend.clone();
        tried.push(backend.uid);
        let rule = &service.view.config.host;
        headers::set_host(request.headers_mut(), rule, host.as_ref(), &backend.authority);
        let may_retry = retries < retry.attempts;
        let asks = attempt::Asks {
            keep_head: may_retry && idempotent,
            upgrade: received.upgrade,
            idempotent,
        };
        let failed = match attempt::send(exchange, held, request, asks).await {
            Ok(answer) => {
                let status = answer.response.status().as_u16();
                let wanted = may_retry && idempotent && retry.on.statuses.contains(&status);
                if !wanted {
                    return Ok(answer);
                }
                match attempt::again_after_status(exchange, answer) {
                    Ok(failed) => failed,
                    Err(answer) => return Ok(*answer),
                }
            }
            Err(failed) => failed,
        };
        let Failed { fault, why, request: again } = failed;
        let unsent = matches!(why, Unanswered::NotConnected(_));
        let reason = why.reason();
        if !may_retry || !failure::may_retry(&retry.on, &why) || exchange.overdue() {
            return Err(fault);
        }
        let Some(again) = again else { return Err(fault) };
        let stats = service.view.stats.of(worker.id);
        let now = worker.now();
        if !unsent && !service.view.budget.withdraw(now, retry.budget, retry.budget_min) {
            stats.retries_denied.inc();
            return Err(fault);
        }
        stats.retries.inc(reason);
        if !unsent {
            back_off(exchange, retry.backoff, retries).await;
        }
        retries += 1;
        last = Some(fault);
        request = again;
        // Backends may have come or gone meanwhile.
        let local = worker.local();
        if let Some(now) = local.service(exchange.service_index(), &service.view.config.name) {
            service = now.clone();
        }
    }
}

/// A place at a backend that was not tried yet.
fn pick(
    exchange: &Exchange,
    service: &Rc<LocalService>,
    client: IpAddr,
    tried: &[u64],
) -> Option<Held> {
    let worker = &exchange.client.worker;
    let now = worker.now();
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
