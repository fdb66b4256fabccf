//! One try: a connection to one backend, the request on it, and the head of the answer.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use http::Request;

use crate::http::fault::{ConnectKind, Fault};
use crate::telemetry::Failure;
use crate::upstream::body::{BodyFault, RequestBody};
use crate::upstream::conn::{Conn, Counted, SendError};

use super::exchange::{Exchange, Held};
use super::failure;
use super::tries::{self, Answer};

/// Pooled connections that were idle for longer are not given to requests that must not be
/// sent twice: the backend may be closing them just now.
const FRESH: Duration = Duration::from_secs(1);

/// How long a pooled connection may take to finish with the exchange before.
const TURN: Duration = Duration::from_millis(10);

/// What a try has to know of its request.
#[derive(Debug, Clone, Copy)]
pub struct Asks {
    /// It may be sent again after this.
    pub keep_head: bool,
    pub upgrade: bool,
    pub idempotent: bool,
}

/// A try without an answer that goes to the client.
pub struct Failed {
    pub fault: Fault,
    pub why: Unanswered,
    /// The request, if it can be sent again.
    pub request: Option<Request<RequestBody>>,
}

/// What kept a backend from answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// No byte of the request was sent.
    NotConnected(ConnectKind),
    Reset,
    /// It sent something that is not HTTP.
    BadAnswer,
    TimedOut,
    /// It answered with a status that is to be tried again.
    Status(u16),
    /// The client's body failed; no backend is to blame.
    Client,
}

/// Sends the request to the backend that is held.
pub async fn send(
    exchange: &Exchange,
    mut held: Held,
    request: Request<RequestBody>,
    asks: Asks,
) -> Result<Answer, Failed> {
    let worker = &exchange.client.worker;
    let mut request = request;
    let mut fresh = false;
    held.stats().requests.inc();
    loop {
        let pooled = match fresh {
            true => None,
            false => take(exchange, &held, asks.idempotent).await,
        };
        let is_pooled = pooled.is_some();
        let mut conn = match pooled {
            Some(conn) => conn,
            None => match connect(exchange, &held).await {
                Ok(conn) => {
                    held.since = worker.now();
                    conn
                }
                Err(kind) => return Err(not_connected(exchange, &held, kind, request)),
            },
        };
        match answer(exchange, &held, &mut conn, request, asks).await {
            Ok(response) => {
                let now = worker.now();
                let took = now.saturating_sub(held.since);
                held.stats().ttfb.record(took);
                failure::judge(&held, response.status(), response.headers(), took, now);
                held.conn = Some(conn);
                return Ok(Answer { response, held, retries: 0, at: now });
            }
            // It was closed in the pool before a byte was written: nothing is lost but the try.
            Err(Broke::Unsent(back)) if is_pooled => {
                let stats = held.service().view.stats.of(worker.id);
                stats.retries.inc(crate::telemetry::RetryReason::Stale);
                request = *back;
            }
            Err(Broke::Unsent(back)) => {
                return Err(not_connected(exchange, &held, ConnectKind::Reset, *back));
            }
            Err(Broke::Sent(error)) => {
                // Most likely closed while the request was on its way to it (RFC 9112 §9.3.1):
                // once more, on a connection of its own.
                let again =
                    (is_pooled && asks.keep_head && !conn.answered() && !conn.write_timed_out())
                        .then(|| tries::again(exchange, conn.take_head()))
                        .flatten();
                let Some(again) = again else { return Err(broke(exchange, &held, &conn, error)) };
                let stats = held.service().view.stats.of(worker.id);
                stats.retries.inc(crate::telemetry::RetryReason::Stale);
                request = again;
                fresh = true;
            }
            Err(Broke::TimedOut) => return Err(timed_out(exchange, &held, &conn)),
        }
    }
}

async fn take(exchange: &Exchange, held: &Held, idempotent: bool) -> Option<Conn> {
    let longest = held.service().view.config.transport.idle_timeout;
    let longest = if idempotent { longest } else { longest.min(FRESH) };
    loop {
        let mut conn = held.backend.take(held.since, longest)?;
        if conn.is_ready() {
            return Some(conn);
        }
        // The exchange before is over; the codec may need one more turn to notice. If it needs
        // more than that, the backend still reads what it was sent then: another one is quicker.
        exchange.arm(exchange.client.worker.now(), TURN);
        let ready = poll_fn(|cx| match conn.poll_ready(cx) {
            Poll::Ready(open) => Poll::Ready(open),
            Poll::Pending => exchange.timer.poll_expired(cx).map(|()| false),
        })
        .await;
        exchange.timer.disarm();
        if ready {
            return Some(conn);
        }
    }
}

async fn connect(exchange: &Exchange, held: &Held) -> Result<Conn, ConnectKind> {
    let worker = &exchange.client.worker;
    let transport = &held.service().view.config.transport;
    let address = held.backend.backend.address;
    let clock = worker.clock.clone();
    let mut connecting = std::pin::pin!(Conn::connect(
        address,
        transport.write_timeout,
        &worker.timers,
        move || clock.now(),
        Counted::new(held.service().view.stats.clone(), worker.id),
    ));
    exchange.arm(worker.now(), transport.connect_timeout);
    let result = poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(|error| kind(&error))),
        Poll::Pending => exchange.timer.poll_expired(cx).map(|()| Err(ConnectKind::TimedOut)),
    })
    .await;
    exchange.timer.disarm();
    result
}

fn kind(error: &io::Error) -> ConnectKind {
    use io::ErrorKind as E;
    match error.kind() {
        E::ConnectionRefused => ConnectKind::Refused,
        E::TimedOut => ConnectKind::TimedOut,
        E::HostUnreachable | E::NetworkUnreachable => ConnectKind::Unreachable,
        E::ConnectionReset | E::ConnectionAborted => ConnectKind::Reset,
        // Out of descriptors or local ports: no fault of the backend.
        E::AddrNotAvailable | E::AddrInUse => ConnectKind::Local,
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
            ConnectKind::Local
        }
        _ => ConnectKind::Other,
    }
}

enum Broke {
    Unsent(Box<Request<RequestBody>>),
    Sent(hyper::Error),
    TimedOut,
}

/// The head of the answer. The response timeout counts from the last byte of the request.
async fn answer(
    exchange: &Exchange,
    held: &Held,
    conn: &mut Conn,
    request: Request<RequestBody>,
    asks: Asks,
) -> Result<http::Response<crate::upstream::conn::AnswerBody>, Broke> {
    let timeout = held.service().view.config.transport.response_timeout;
    exchange.arm(held.since, timeout);
    let mut sending = std::pin::pin!(conn.send(request, asks.keep_head, asks.upgrade));
    let result = poll_fn(|cx| {
        if let Poll::Ready(result) = sending.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(|error| match error {
                SendError::Unsent(request) => Broke::Unsent(request),
                SendError::Sent(error) => Broke::Sent(error),
            }));
        }
        while exchange.timer.poll_expired(cx).is_ready() {
            let now = exchange.client.worker.now();
            let from = match &exchange.upload {
                // Its own waits are bounded: by the client's body timeout and the write timeout.
                Some(upload) if !upload.ended() => now,
                Some(upload) => upload.progress(),
                None => held.since,
            };
            let until = from.saturating_add(timeout.as_micros() as u64);
            if until <= now || exchange.overdue() {
                return Poll::Ready(Err(Broke::TimedOut));
            }
            exchange.arm(from, timeout);
        }
        Poll::Pending
    })
    .await;
    exchange.timer.disarm();
    result
}

fn not_connected(
    exchange: &Exchange,
    held: &Held,
    kind: ConnectKind,
    request: Request<RequestBody>,
) -> Failed {
    let service = held.service().view.config.name.clone();
    let overdue = exchange.overdue();
    if !overdue {
        failure::connect_failed(held, exchange.client.worker.now(), kind);
    }
    let fault = match overdue {
        true => Fault::RouteTimeout { service: Some(service) },
        false => Fault::Connect { service, kind },
    };
    Failed { fault, why: Unanswered::NotConnected(kind), request: Some(request) }
}

fn broke(exchange: &Exchange, held: &Held, conn: &Conn, error: hyper::Error) -> Failed {
    let service = held.service().view.config.name.clone();
    if let Some(fault) = exchange.upload.as_ref().and_then(|upload| upload.fault()) {
        let fault = match fault {
            BodyFault::TooLarge => Fault::BodyTooLarge,
            BodyFault::TimedOut => Fault::RequestTimeout,
            BodyFault::Broken => Fault::BadRequest("the request body is not valid"),
        };
        return Failed { fault, why: Unanswered::Client, request: None };
    }
    let now = exchange.client.worker.now();
    let (fault, why, failure) = if conn.write_timed_out() {
        (Fault::WriteTimeout { service }, Unanswered::TimedOut, Failure::Timeout)
    } else if error.is_parse() {
        let why = "it is not valid HTTP";
        (Fault::BadAnswer { service, why }, Unanswered::BadAnswer, Failure::Protocol)
    } else {
        (Fault::Reset { service }, Unanswered::Reset, Failure::Reset)
    };
    failure::failed(held, now, failure);
    Failed { fault, why, request: tries::again(exchange, conn.take_head()) }
}

fn timed_out(exchange: &Exchange, held: &Held, conn: &Conn) -> Failed {
    let service = held.service().view.config.name.clone();
    if exchange.overdue() {
        let fault = Fault::RouteTimeout { service: Some(service) };
        return Failed { fault, why: Unanswered::TimedOut, request: None };
    }
    failure::failed(held, exchange.client.worker.now(), Failure::Timeout);
    let request = tries::again(exchange, conn.take_head());
    Failed { fault: Fault::ResponseTimeout { service }, why: Unanswered::TimedOut, request }
}
