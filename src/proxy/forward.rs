//! From a routed request to a backend's answer.

use std::rc::Rc;

use http::Response;
use hyper::body::{Body, Incoming};

use crate::http::fault::Fault;
use crate::http::headers::{self, Received};
use crate::http::tunnel::Tunnel;
use crate::snapshot::RouteView;
use crate::telemetry::InFlight;
use crate::upstream::body::{Limits, RequestBody, Upload};
use crate::worker::local::{LocalService, LocalSnapshot};

use super::Outcome;
use super::body::{Relay, ResponseBody};
use super::exchange::{Exchange, Held};
use super::prepare::{self, Prepared};
use super::tries::{self, Answer};

/// A request as it came from the client.
pub struct Request {
    pub head: http::request::Parts,
    pub body: Incoming,
    /// The target that the backend gets, where the route rewrites it.
    pub rewritten: Option<http::uri::PathAndQuery>,
}

/// Sends the request to a backend, or to others if that fails, and prepares the relay of the answer.
pub async fn forward(
    mut exchange: Box<Exchange>,
    local: &LocalSnapshot,
    route: &RouteView,
    received: &Received,
    Request { head, body, rewritten }: Request,
) -> Outcome {
    let worker = exchange.client.worker.clone();
    let service = route.service.and_then(|index| local.services.get(index));
    let Some(service) = service else {
        // A snapshot whose route names no service of its own cannot be built.
        return Outcome::Fault(Fault::Internal, exchange);
    };
    let forwarded = service.view.config.forwarded;
    let prepared = prepare::request(&exchange.client, route, received, head, rewritten, forwarded);
    let stats = &service.view.stats;
    exchange.entered(InFlight::enter(stats, worker.id, &worker.clock, exchange.started));
    service.view.budget.request(exchange.started);
    let upload = upload(&exchange, route, service, &prepared, body);
    let request_body = upload.as_ref().map_or_else(RequestBody::empty, |upload| upload.body());
    exchange.upload = upload;
    match tries::run(&exchange, service, received, prepared, request_body).await {
        Ok(answer) => deliver(exchange, service, route, answer).await,
        Err(fault) => Outcome::Fault(fault, exchange),
    }
}

/// The body, if there is one; kept for a resend only where the method allows one.
fn upload(
    exchange: &Exchange,
    route: &RouteView,
    service: &LocalService,
    prepared: &Prepared,
    body: Incoming,
) -> Option<Rc<Upload>> {
    if body.is_end_stream() {
        return None;
    }
    let client = &exchange.client;
    let retry = &service.view.config.retry;
    let resent = retry.attempts > 0 && retry.methods.contains(&prepared.head.method);
    let limits = Limits {
        max_body: route.config.max_body,
        timeout: client.listener.config.timeout.body,
        keep: if resent { retry.body_buffer } else { 0 },
    };
    let worker = &client.worker;
    Some(Upload::new(body, limits, worker.clock.clone(), worker.timers.clone()))
}

async fn deliver(
    mut exchange: Box<Exchange>,
    service: &LocalService,
    route: &RouteView,
    Answer { response, held, retries, at }: Answer,
) -> Outcome {
    let (mut head, body) = response.into_parts();
    head.version = http::Version::HTTP_11;
    head.extensions.clear();
    headers::receive_response(&mut head.headers, head.status);
    headers::apply(&mut head.headers, &route.config.headers_out);
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
    if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        return switch(exchange, held, head).await;
    }
    exchange.hold(held);
    let read_timeout = service.view.config.transport.read_timeout;
    let relay = Relay::new(body, exchange, read_timeout);
    Outcome::Relayed(Response::from_parts(head, ResponseBody::Relay(relay)))
}

/// A 101: once it is written, the client's socket is connected to the backend's.
async fn switch(
    mut exchange: Box<Exchange>,
    mut held: Held,
    head: http::response::Parts,
) -> Outcome {
    let socket = match held.conn.take() {
        Some(conn) => conn.into_socket().await,
        None => None,
    };
    let service = held.service().view.config.name.clone();
    exchange.hold(held);
    let Some((backend, early)) = socket else {
        return Outcome::Fault(Fault::Reset { service }, exchange);
    };
    let client = exchange.client.clone();
    client.switch(Tunnel { backend, early, exchange });
    Outcome::Relayed(Response::from_parts(head, ResponseBody::Own(bytes::Bytes::new())))
}
