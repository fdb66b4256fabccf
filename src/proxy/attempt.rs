//! One try: a connection to one backend, the request on it, and the head of the answer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::Response;

use crate::clock::Micros;
use crate::config::types::Protocol;
use crate::http::fault::{ConnectKind, Fault, Phase};
use crate::telemetry::Failure;
use crate::upstream::body::{BodyFault, Upload};
use crate::upstream::conn::{AnswerBody, Conn, Kept, Lost, SendError};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::outlier::Blow;
use crate::upstream::proxy_header::Ends;
use crate::worker::context::Worker;
use crate::worker::timers::Timer;

use super::connect::connect;
use super::exchange::{Exchange, Held};
use super::failure;
use super::interim;
use super::tries;

/// Pooled connections that were idle for longer are not given to requests that must not be
/// sent twice: the backend may be closing them just now.
const FRESH: Duration = Duration::from_secs(1);

/// A pooled connection that breaks so soon after a request was sent on it was being closed by then: the news of it
/// was on its way for no longer than a round trip within a region takes. Later it is the backend that gave the request
/// up, which may be dead.
const STALE: Duration = Duration::from_millis(20);

/// How often a backend may say that it has not looked at a request, on a connection that goes on: it has too much to do.
const REFUSALS: u32 = 3;
/// The same on connections that end. Each of them has answered others before, and is followed by another.
const ENDS: u32 = 30;

/// What a try works with.
#[derive(Clone, Copy)]
pub struct Try<'a> {
    pub worker: &'a Rc<Worker>,
    pub timer: &'a Timer,
    /// When the whole exchange began, and when it must be over.
    pub started: Micros,
    pub deadline: Option<Micros>,
    /// The request's body.
    pub upload: Option<&'a Rc<Upload>>,
    /// The client's connection, for backends that are told of it.
    pub ends: &'a Ends,
    /// Somebody wants to know where its head is kept once it is sent.
    pub kept: Option<&'a Cell<Option<Kept>>>,
    /// Who gets what a backend says before its answer.
    pub informs: Option<&'a Exchange>,
}

impl Try<'_> {
    /// Sets the timer to the nearer of a wait from `from` and the exchange's own deadline.
    pub fn arm(&self, from: Micros, wait: Duration) {
        let until = from.saturating_add(wait.as_micros() as Micros);
        self.timer.arm(self.deadline.map_or(until, |deadline| deadline.min(until)));
    }

    /// Whether the exchange as a whole has run out of time.
    pub fn overdue(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= self.worker.now())
    }
}

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
}

impl Failed {
    /// Nothing is left to send; tries are only begun with a request.
    fn without_request() -> Self {
        Self { fault: Fault::Internal, why: Unanswered::Client }
    }
}

/// The request of an exchange. A try takes it when it has a connection; afterwards it is here if it can be sent
/// again. A cell, so that another can look while a try is under way. Boxed: it is moved with each step.
pub type Slot = RefCell<Option<Box<Outgoing>>>;

/// A head, and when it came.
pub type Sent = (Box<Response<AnswerBody>>, Micros);

/// What kept a backend from answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// No byte of the request was sent.
    NotConnected(ConnectKind),
    /// It said that it has not looked at the request.
    Refused,
    Reset,
    /// It sent something that is not HTTP.
    BadAnswer,
    TimedOut,
    /// It answered with a status that is to be tried again.
    Status(u16),
    /// The client's body failed; no backend is to blame.
    Client,
}

/// Sends the request to the backend that is held; the head of its answer, and when it came.
pub async fn send(
    with: &Try<'_>,
    held: &mut Held,
    request: &Slot,
    asks: Asks,
) -> Result<Sent, Failed> {
    let worker = with.worker;
    let (mut fresh, mut refused, mut ended) = (false, 0, 0);
    held.stats().requests.inc();
    loop {
        let pooled = match fresh {
            true => None,
            false => take(held, asks),
        };
        let is_pooled = pooled.is_some();
        let mut conn = match pooled {
            Some(conn) => conn,
            // Boxed: most requests find a connection.
            None => match Box::pin(connect(with, held, asks.upgrade)).await {
                Ok(conn) => {
                    held.since = worker.now();
                    conn
                }
                Err(kind) => return Err(not_connected(with, held, kind)),
            },
        };
        let Some(sent) = request.take() else { return Err(Failed::without_request()) };
        if let Some(kept) = with.kept {
            kept.set(Some(conn.kept()));
        }
        let sending = std::pin::pin!(conn.send(sent, asks.keep_head, asks.upgrade));
        match answer(with, held, &conn, sending).await {
            Ok(response) => {
                let now = worker.now();
                let took = now.saturating_sub(held.since);
                held.stats().ttfb.record(took);
                held.heard();
                let head = (response.status(), response.headers());
                failure::judge(with, held, head, took, now);
                held.conn = Some(conn);
                return Ok((response, now));
            }
            // It was closed in the pool before a byte was written: nothing is lost but the try.
            Err(Broke::Unsent(back)) => {
                request.replace(Some(back));
                if !is_pooled {
                    return Err(not_connected(with, held, ConnectKind::Reset));
                }
                let stats = held.service().view.stats.of(worker.id);
                stats.retries.inc(crate::telemetry::RetryReason::Stale);
            }
            Err(Broke::Sent(error)) => {
                // Most likely closed while the request was on its way to it (RFC 9112 §9.3.1):
                // once more, on a connection of its own.
                if is_pooled && asks.keep_head && is_stale(with, held, &conn) {
                    request.replace(tries::again(with.upload, conn.take_head()));
                }
                if request.borrow().is_none() {
                    return Err(broke(with, held, &conn, request, error));
                }
                let stats = held.service().view.stats.of(worker.id);
                stats.retries.inc(crate::telemetry::RetryReason::Stale);
                fresh = true;
            }
            // It has not looked at it: the connection is full, or ends.
            Err(Broke::Refused) => {
                request.replace(tries::again(with.upload, conn.take_head()));
                let (count, most) = match conn.is_leaving() {
                    true => (&mut ended, ENDS),
                    false => (&mut refused, REFUSALS),
                };
                if *count == most || request.borrow().is_none() {
                    return Err(refusal(with, held));
                }
                *count += 1;
                let stats = held.service().view.stats.of(worker.id);
                stats.retries.inc(crate::telemetry::RetryReason::Refused);
            }
            Err(Broke::NoTunnels) => return Err(no_tunnels(with, held)),
            Err(Broke::TimedOut) => return Err(timed_out(with, held, &conn, request)),
        }
    }
}

/// Whether it was the connection that ended, and not the backend: then nobody is blamed, and the same backend gets the
/// request on a fresh connection. Without another one to ask it does in any case.
fn is_stale(with: &Try<'_>, held: &Held, conn: &Conn) -> bool {
    let soon = held.since.saturating_add(STALE.as_micros() as Micros);
    let alone = || !tries::has_another(held.service(), &[held.backend.backend.uid]);
    conn.may_be_stale() && (with.worker.now() <= soon || alone())
}

fn take(held: &Held, asks: Asks) -> Option<Conn> {
    let transport = &held.service().view.config.transport;
    if transport.names_clients() {
        return None;
    }
    let longest = transport.idle_timeout;
    // Where both are spoken, HTTP/1.1 is what every backend takes upgrades over.
    let alone = asks.upgrade && transport.protocol == Protocol::Auto;
    let longest = if asks.idempotent { longest } else { longest.min(FRESH) };
    held.backend.pool.take(held.since, longest, alone)
}

enum Broke {
    Unsent(Box<Outgoing>),
    Refused,
    NoTunnels,
    Sent(Lost),
    TimedOut,
}

/// The head of the answer. The response timeout counts from the last byte of the request.
async fn answer(
    with: &Try<'_>,
    held: &Held,
    conn: &Conn,
    mut sending: Pin<&mut impl Future<Output = Result<Box<Response<AnswerBody>>, SendError>>>,
) -> Result<Box<Response<AnswerBody>>, Broke> {
    let timeout = held.service().view.config.transport.response_timeout;
    with.arm(held.since, timeout);
    let result = poll_fn(|cx| {
        if let Poll::Ready(result) = sending.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(|error| match error {
                SendError::Unsent(request) => Broke::Unsent(request),
                SendError::Refused => Broke::Refused,
                SendError::NoTunnels => Broke::NoTunnels,
                SendError::Sent(error) => Broke::Sent(error),
            }));
        }
        if interim::pass_on(with, conn) {
            // For whoever writes it.
            cx.waker().wake_by_ref();
        }
        while with.timer.poll_expired(cx).is_ready() {
            let now = with.worker.now();
            let from = match with.upload {
                // Its own waits are bounded: by the client's body timeout and the write timeout.
                Some(upload) if !upload.ended() => now,
                Some(upload) => upload.progress(),
                None => held.since,
            };
            let until = from.saturating_add(timeout.as_micros() as u64);
            if until <= now || with.overdue() {
                return Poll::Ready(Err(Broke::TimedOut));
            }
            with.arm(from, timeout);
        }
        Poll::Pending
    })
    .await;
    with.timer.disarm();
    if interim::pass_on(with, conn) {
        Box::pin(interim::written(with)).await;
    }
    result
}

fn not_connected(with: &Try<'_>, held: &mut Held, kind: ConnectKind) -> Failed {
    let (overdue, now) = (with.overdue(), with.worker.now());
    let at = held.at(now);
    if !overdue || failure::is_to_blame(with, held, held.since, now) {
        failure::connect_failed(with, held, now, kind);
    }
    let fault = match overdue {
        true => Fault::RouteTimeout { at, phase: Phase::Connecting },
        false => Fault::Connect { at, kind },
    };
    Failed { fault, why: Unanswered::NotConnected(kind) }
}

fn refusal(with: &Try<'_>, held: &mut Held) -> Failed {
    let now = with.worker.now();
    failure::failed(with, held, now, Failure::Reset, Blow::Reset);
    Failed { fault: Fault::Reset { at: held.at(now) }, why: Unanswered::Refused }
}

/// The backend is well, but not for this request.
fn no_tunnels(with: &Try<'_>, held: &Held) -> Failed {
    let at = held.at(with.worker.now());
    let fault = Fault::BadAnswer { at, why: "it takes no WebSocket over HTTP/2" };
    Failed { fault, why: Unanswered::Client }
}

fn broke(with: &Try<'_>, held: &mut Held, conn: &Conn, request: &Slot, error: Lost) -> Failed {
    if let Some(fault) = with.upload.and_then(|upload| upload.fault()) {
        let fault = match fault {
            BodyFault::TooLarge => Fault::BodyTooLarge,
            BodyFault::TimedOut => Fault::RequestTimeout,
            BodyFault::Broken => Fault::BadRequest("the request body is not valid"),
        };
        return Failed { fault, why: Unanswered::Client };
    }
    let now = with.worker.now();
    let at = held.at(now);
    let (fault, why, failure, blow) = if conn.write_timed_out() {
        (Fault::WriteTimeout { at }, Unanswered::TimedOut, Failure::Timeout, Blow::Timeout)
    } else if let Lost::NotHttp(why) = error {
        let fault = Fault::BadAnswer { at, why };
        (fault, Unanswered::BadAnswer, Failure::Protocol, Blow::NotHttp)
    } else {
        (Fault::Reset { at }, Unanswered::Reset, Failure::Reset, Blow::Reset)
    };
    failure::failed(with, held, now, failure, blow);
    request.replace(tries::again(with.upload, conn.take_head()));
    Failed { fault, why }
}

fn timed_out(with: &Try<'_>, held: &mut Held, conn: &Conn, request: &Slot) -> Failed {
    let now = with.worker.now();
    let at = held.at(now);
    if with.overdue() {
        // While the client still sends, it is its time that ran out.
        let (sent, since) = match with.upload {
            Some(upload) => (upload.ended(), upload.progress().max(held.since)),
            None => (true, held.since),
        };
        if sent && failure::is_to_blame(with, held, since, now) {
            failure::failed(with, held, now, Failure::Timeout, Blow::Timeout);
        }
        let phase = if sent { Phase::Waiting } else { Phase::Sending };
        let fault = Fault::RouteTimeout { at, phase };
        return Failed { fault, why: Unanswered::TimedOut };
    }
    failure::failed(with, held, now, Failure::Timeout, Blow::Timeout);
    request.replace(tries::again(with.upload, conn.take_head()));
    Failed { fault: Fault::ResponseTimeout { at }, why: Unanswered::TimedOut }
}
