//! From a routed request to a backend's answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body;

use crate::config::types::Balance;
use crate::http::client::Client;
use crate::http::fault::Fault;
use crate::http::headers::{self, Received};
use crate::http::tunnel::Tunnel;
use crate::snapshot::RouteView;
use crate::telemetry::InFlight;
use crate::upstream::body::{Limits, RequestBody, Upload};
use crate::upstream::conn::{AnswerBody, Conn};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::received::Received as ReceivedBody;
use crate::websocket;
use crate::worker::local::{LocalService, LocalSnapshot};

use super::Outcome;
use super::admitting;
use super::affinity::Affinity;
use super::body::{Relay, ResponseBody};
use super::exchange::{Exchange, Held};
use super::holding;
use super::load_report;
use super::mirror::{self, Original};
use super::prepare;
use super::tries::{self, Answer, Sending};

/// A request that goes to a backend, ready to be sent.
pub struct Forward {
    /// Until the answer is there.
    exchange: Option<Box<Exchange>>,
    service: Rc<LocalService>,
    route: Arc<RouteView>,
    sending: Sending,
    /// The client asks for WebSocket over HTTP/2.
    pub opening: Option<Box<Opening>>,
}

/// The stream of an extended CONNECT (RFC 8441).
pub struct Opening {
    /// What its HTTP/1.1 form has to be answered with.
    key: HeaderValue,
}

impl Opening {
    /// If a request is one: from here on it is an upgrade like HTTP/1.1's.
    #[inline]
    pub fn of(client: &Client, head: &mut Parts) -> Option<Box<Self>> {
        if head.method != Method::CONNECT || !websocket::is_connect(head) {
            return None;
        }
        let nonce = client.worker.rng.borrow_mut().u128(..).to_ne_bytes();
        Some(Box::new(Self { key: websocket::from_connect(head, nonce) }))
    }
}

/// Prepares a request for a service. `rewritten`: the target that the backend gets, where the
/// route rewrites it.
pub fn prepare(
    mut exchange: Box<Exchange>,
    local: &LocalSnapshot,
    route: Arc<RouteView>,
    received: &mut Received,
    (mut head, body): (Box<Parts>, ReceivedBody),
    rewritten: Option<http::uri::PathAndQuery>,
) -> Result<Box<Forward>, Box<Exchange>> {
    let service = exchange.choose().and_then(|target| target.service);
    let service = service.and_then(|index| local.services.get(index));
    // A snapshot whose route names no service of its own cannot be built.
    let Some(service) = service.cloned() else { return Err(exchange) };
    let client = exchange.client.clone();
    let (view, now) = (&service.view, exchange.started);
    if view.config.balance == Balance::Hash {
        received.put_id(&mut head.headers);
    }
    let affinity = Affinity::of_request(view, &client, &mut head, received.client, now);
    let prepared = prepare::request(&client, &route, &view.config, received, &mut head, rewritten);
    holding::note(view, head.uri.path(), now);
    let worker = &client.worker;
    let stats = &service.view.stats;
    exchange.entered(InFlight::enter(stats, worker.id, &worker.clock, exchange.started));
    service.view.budget.request(exchange.started);
    let size = body.size_hint().lower();
    let upload = upload(&exchange, &route, &service, &head.method, body);
    if let Some(to) = &route.mirror
        && !received.upgrade
    {
        let (client, upload) = (received.client, upload.as_ref());
        let original = Original { head: &head, host: prepared.host.as_ref(), client, size, upload };
        mirror::copy(&exchange, local, (&route, to), original);
    }
    let body = upload.as_ref().map_or_else(RequestBody::empty, |upload| upload.body());
    exchange.upload = upload;
    let class = admitting::class(&route.config, &client.peer, &head.headers);
    let request = Request::from_parts(*head, body);
    let sending = Sending {
        request: RefCell::new(Some(Box::new(Outgoing::new(request, prepared.lines)))),
        host: prepared.host,
        host_in_place: prepared.host_in_place,
        client: received.client,
        class,
        share: None,
        affinity,
        upgrade: received.upgrade,
    };
    Ok(Box::new(Forward { exchange: Some(exchange), service, route, sending, opening: None }))
}

impl Forward {
    /// Sends the request to a backend, or to others if that fails, and prepares the relay of the
    /// answer. `None` only if it was asked before.
    pub async fn run(&mut self) -> Option<Outcome> {
        let mut exchange = self.exchange.take()?;
        Some(match tries::run(&exchange, &self.service, &mut self.sending).await {
            Ok(mut answer) => {
                if self.opening.is_some() && answer.response.status().is_success() {
                    // To its client every 2xx says that the WebSocket is open (RFC 9110 §9.3.6).
                    let at = answer.held.at(answer.at);
                    let why =
                        "it answers the opening of a WebSocket with success, but not with 101";
                    return Some(Outcome::Fault(Fault::BadAnswer { at, why }, exchange));
                }
                answer.held.share = self.sending.share.take();
                let affinity = self.sending.affinity;
                let (head, answer) = answered(&mut exchange, &self.route, affinity, answer);
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    let opening = self.opening.take();
                    return Some(Box::pin(switch(exchange, answer.held, head, opening)).await);
                }
                exchange.hold(answer.held);
                let read_timeout = self.service.view.config.transport.read_timeout;
                let relay = Relay::new(answer.body, exchange, read_timeout);
                Outcome::Relayed(Response::from_parts(head, ResponseBody::Relay(relay)))
            }
            Err(fault) => Outcome::Fault(fault, exchange),
        })
    }
}

/// The body, if there is one; kept for a resend only where the method allows one.
fn upload(
    exchange: &Exchange,
    route: &RouteView,
    service: &LocalService,
    method: &http::Method,
    body: ReceivedBody,
) -> Option<Rc<Upload>> {
    if body.is_end_stream() {
        return None;
    }
    let client = &exchange.client;
    let retry = &service.view.config.retry;
    let resent = retry.attempts > 0 && retry.methods.contains(method);
    let limits = Limits {
        max_body: route.config.max_body,
        timeout: client.listener.config.timeout.body,
        keep: if resent { retry.body_buffer } else { 0 },
        rate: route.config.rate_bytes,
    };
    let worker = &client.worker;
    Some(Upload::new(body, limits, worker.clock.clone(), worker.timers.clone()))
}

/// What is left of a backend's answer once its head was taken.
struct Rest {
    body: AnswerBody,
    held: Held,
}

/// Makes the head of the answer ready for the client, and notes that it came.
fn answered(
    exchange: &mut Exchange,
    route: &RouteView,
    affinity: Affinity,
    Answer { response, held, retries, at }: Answer,
) -> (http::response::Parts, Rest) {
    let (mut head, body) = (*response).into_parts();
    head.version = http::Version::HTTP_11;
    head.extensions.clear();
    headers::receive_response(&mut head.headers, head.status);
    if exchange.client.listener.config.http3 {
        // What a backend offers is not at our address.
        head.headers.remove(http::header::ALT_SVC);
    }
    load_report::take(&held, &mut head.headers, at);
    headers::apply(&mut head.headers, &route.config.headers_out);
    affinity.announce(&held, &mut head, &exchange.client.worker.clock, at);
    if let Some(upload) = &exchange.upload {
        upload.forget();
    }
    exchange.answered(head.status);
    if let Some(in_flight) = exchange.in_flight() {
        let took = at.saturating_sub(exchange.started);
        in_flight.stats().ttfb.record(took);
        if let Some(logged) = &mut exchange.logged {
            logged.ttfb = Some(took);
            logged.retries = retries;
        }
    }
    (head, Rest { body, held })
}

/// A 101: once it is written, the client's socket, or its stream, is connected to the backend's.
async fn switch(
    mut exchange: Box<Exchange>,
    mut held: Held,
    mut head: http::response::Parts,
    opening: Option<Box<Opening>>,
) -> Outcome {
    if let Some(opening) = &opening
        && !websocket::accept_connect(&mut head.status, &mut head.headers, &opening.key)
    {
        let at = held.at(exchange.client.worker.now());
        let fault = Fault::BadAnswer { at, why: "its 101 is not for the key that it was sent" };
        return Outcome::Fault(fault, exchange);
    }
    let Some((backend, early)) = held.conn.take().and_then(Conn::into_link) else {
        let at = held.at(exchange.client.worker.now());
        return Outcome::Fault(Fault::Reset { at }, exchange);
    };
    exchange.hold(held);
    let client = exchange.client.clone();
    exchange.answered(head.status);
    client.switch(Tunnel { backend, early, exchange });
    Outcome::Relayed(Response::from_parts(head, ResponseBody::Own(bytes::Bytes::new())))
}
