//! The whole path of a request, on one page.

mod admitting;
mod affinity;
mod attempt;
pub mod body;
mod connect;
mod ejection;
pub mod exchange;
mod failure;
mod forward;
mod hedge;
mod holding;
mod interim;
mod limited;
mod load_report;
mod logged;
mod mirror;
mod patience;
mod prepare;
mod tries;
mod waiting;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Body;

use crate::config::types::RouteAction;
use crate::http::client::Client;
use crate::http::fault::Fault;
use crate::http::request_id::{RequestId, X_REQUEST_ID};
use crate::http::respond::{self, Asked};
use crate::http::streams::Turn;
use crate::http::{fields, headers, hops, host};
use crate::limits;
use crate::route::{path, redirect, rewrite};
use crate::snapshot::RouteView;
use crate::telemetry::Flood;
use crate::upstream::received::Received;
use crate::worker::local::LocalSnapshot;

use body::ResponseBody;
use exchange::Exchange;
use forward::{Forward, Opening};
use limited::{Admission, Waiting};
use logged::Logged;

/// Serves one request: receive → route → (answer ourselves | pick → send → relay) → record.
/// It never fails: what goes wrong becomes an answer.
///
/// All that needs no wait is done before the future is made: futures are moved about, and hold
/// whatever they begin with to their end.
pub fn handle(
    client: Rc<Client>,
    request: Request<impl Into<Received>>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    let (head, body) = request.into_parts();
    let (mut wants, mut begun) = begin(&client, Box::new(head), body.into());
    async move {
        if let Begun::Asking(waiting) = &mut begun
            && let Some(waiting) = waiting.take()
        {
            begun = Box::pin(waiting.settle(&mut wants.standing)).await;
        }
        let outcome = match &mut begun {
            Begun::Forward(forward) => forward.run().await,
            Begun::Over(outcome) => outcome.take(),
            // It is over with asking.
            Begun::Asking(_) => None,
        };
        if let Some(Outcome::Fault(fault, exchange)) = &outcome
            && limited::is_slow(&client, fault)
        {
            Box::pin(limited::slow(exchange)).await;
        }
        Ok(finish(&client, outcome, wants))
    }
}

/// What our own answers need to know of the request.
struct Wants {
    /// It asks for another protocol.
    asked: bool,
    accept: Option<HeaderValue>,
    grpc: bool,
    request_id: RequestId,
    /// Where the client stands with the route's limits.
    standing: Option<Box<limits::Fields>>,
}

/// What can be said of a request at once.
enum Begun {
    /// Boxed: it is moved several times until it is polled.
    Forward(Box<Forward>),
    /// It is some until it is taken.
    Over(Option<Outcome>),
    /// Others have a say in it. The same.
    Asking(Option<Box<Waiting>>),
}

fn begin(client: &Rc<Client>, mut head: Box<Parts>, body: Received) -> (Wants, Begun) {
    let opening = Opening::of(client, &mut head);
    let mut exchange = Exchange::begin(client, head.method.clone());
    client.had_body.set(!body.is_end_stream());
    client.old.set(head.version == Version::HTTP_10);
    // The HTTP/1 codec counts them itself.
    let too_many = head.headers.len() > client.listener.config.limit.header_count;
    let odd = match head.version {
        Version::HTTP_2 => fields::check(&head.headers).err(),
        _ => None,
    };
    let mut received = {
        let trusted = &client.listener.config.trusted_proxies;
        let mut rng = client.worker.rng.borrow_mut();
        // An extended CONNECT is an upgrade by now.
        let version = if opening.is_some() { Version::HTTP_11 } else { head.version };
        headers::receive(&mut head.headers, version, &client.peer, trusted, &mut rng)
    };
    if client.worker.logs() {
        exchange.logged = Some(Logged::new(&head, &received));
    }
    let accept = match received.has.accept {
        true => head.headers.get(header::ACCEPT).cloned(),
        false => None,
    };
    let grpc =
        received.has.content_type && head.version >= Version::HTTP_2 && is_grpc(&head.headers);
    let last = last_stop(&mut head);
    let local = client.worker.local();
    if local.snapshot.router.reads(&X_REQUEST_ID) {
        received.put_id(&mut head.headers);
    }
    let mut standing = None;
    let banned = limited::banned(client, received.client, exchange.started);
    let refuse = |fault, exchange| Begun::Over(Some(Outcome::Fault(fault, exchange)));
    let begun = match route(client, &local, &head, &body) {
        _ if banned.is_some() => refuse(banned.unwrap_or(Fault::Internal), exchange),
        _ if odd.is_some() => refuse(odd.unwrap_or(Fault::Internal), exchange),
        _ if too_many => {
            client.floods(Flood::LargeHead);
            refuse(Fault::HeadTooLarge, exchange)
        }
        _ if client.listener.config.redirect_to_https => match to_https(&head) {
            Ok(response) => Begun::Over(Some(Outcome::Own(response, exchange))),
            Err(fault) => refuse(fault, exchange),
        },
        Err(fault) => refuse(fault, exchange),
        Ok(Found { route, rewritten }) => {
            exchange.routed(&route);
            let admission = match &route.limits {
                None => Admission::In,
                Some(limits) => {
                    received.put_id(&mut head.headers);
                    let asked = (&head.headers, received.client);
                    limited::admit(&mut exchange, &local, limits, asked, &mut standing)
                }
            };
            let routed = Routed { exchange, local, route, rewritten, head, body, last, opening };
            match admission {
                Admission::In => proceed(routed, &mut received),
                Admission::Refused(fault) => refuse(fault, routed.exchange),
                Admission::Asking(asking) => {
                    let received = received.clone();
                    Begun::Asking(Some(Box::new(Waiting { asking, routed, received })))
                }
            }
        }
    };
    let wants = Wants { asked: received.asked, accept, grpc, request_id: received.id, standing };
    (wants, begun)
}

/// A request that has found its route.
struct Routed {
    exchange: Box<Exchange>,
    local: Rc<LocalSnapshot>,
    route: Arc<RouteView>,
    rewritten: Option<http::uri::PathAndQuery>,
    /// Boxed: it is moved several times.
    head: Box<Parts>,
    body: Received,
    /// It may not go any further: this is the answer.
    last: Option<Result<Response<bytes::Bytes>, Fault>>,
    opening: Option<Box<Opening>>,
}

/// Goes on with a request that is within the limits of its route.
fn proceed(routed: Routed, received: &mut headers::Received) -> Begun {
    let Routed { exchange, local, route, rewritten, head, body, last, opening } = routed;
    Begun::Over(Some(match (last, &route.config.action) {
        (Some(Ok(response)), _) => Outcome::Own(response, exchange),
        (Some(Err(fault)), _) => Outcome::Fault(fault, exchange),
        (None, RouteAction::Service(_) | RouteAction::Split(_)) => {
            let request = (head, body);
            match forward::prepare(exchange, &local, route, received, request, rewritten) {
                Ok(mut forward) => {
                    forward.opening = opening;
                    return Begun::Forward(forward);
                }
                Err(exchange) => Outcome::Fault(Fault::Internal, exchange),
            }
        }
        (None, own) => match answer(own, &head) {
            Ok(response) => Outcome::Own(response, exchange),
            Err(fault) => Outcome::Fault(fault, exchange),
        },
    }))
}

/// The answer to a request that may not go any further, or whose word on that is no good.
fn last_stop(head: &mut Parts) -> Option<Result<Response<bytes::Bytes>, Fault>> {
    match hops::is_last(&head.method, &mut head.headers) {
        Ok(false) => None,
        Ok(true) if head.method == Method::OPTIONS => Some(Ok(respond::options())),
        // Nothing is reflected: a head holds secrets.
        Ok(true) => Some(Err(Fault::MethodNotAllowed)),
        Err(fault) => Some(Err(fault)),
    }
}

/// `application/grpc`, `application/grpc+proto` and the like.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How an exchange comes to its answer.
enum Outcome {
    /// A backend's answer; the exchange goes with its body.
    Relayed(Response<ResponseBody>),
    /// An answer that the route gives itself.
    Own(Response<bytes::Bytes>, Box<Exchange>),
    /// An answer for what went wrong.
    Fault(Fault, Box<Exchange>),
}

struct Found {
    route: Arc<RouteView>,
    /// The target that the backend gets, where the route rewrites it.
    rewritten: Option<http::uri::PathAndQuery>,
}

/// Finds the route, and refuses what no route may be asked with.
fn route(
    client: &Client,
    local: &LocalSnapshot,
    head: &Parts,
    body: &Received,
) -> Result<Found, Fault> {
    let limit = &client.listener.config.limit;
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    if target.len() > limit.uri_bytes {
        return Err(Fault::UriTooLong);
    }
    if head.method == Method::CONNECT {
        return Err(Fault::MethodNotAllowed);
    }
    if head.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(Fault::BadRequest("the target is neither http nor https"));
    }
    let host = host::of_request(head.version, &head.uri, &head.headers)?;
    // A certificate was asked for in the name of the handshake's host; another's rules may be other ones.
    if let Some(proven) = &client.proven
        && proven.server_name.as_deref() != host.as_ref().map(|host| &*host.name)
        && proven.server_name.is_some()
    {
        return Err(Fault::Misdirected);
    }
    // `OPTIONS *` asks about the server as a whole (RFC 9110 §9.3.7): whoever serves "/" answers.
    let whole = head.method == Method::OPTIONS && head.uri.path() == "*";
    if !whole && head.uri.path() == "*" {
        return Err(Fault::BadRequest("the target * is for OPTIONS"));
    }
    let normal = path::normalise(if whole { "/" } else { head.uri.path() })?;
    let snapshot = &local.snapshot;
    let index = snapshot.router.find(
        client.listener_index(snapshot),
        host.as_ref().map(|host| &*host.name),
        &normal,
        &head.method,
        &head.headers,
    );
    let route = index.and_then(|index| snapshot.routes.get(index)).ok_or(Fault::NoRoute)?;
    if route.config.max_body.is_some_and(|most| body.size_hint().lower() > most) {
        return Err(Fault::BodyTooLarge);
    }
    let rewritten = match (&route.config.rewrite, head.uri.path_and_query()) {
        (Some(rule), Some(original)) if !whole => Some(rewrite::rewrite(rule, original, &normal)?),
        _ => None,
    };
    Ok(Found { route: route.clone(), rewritten })
}

/// The answer of a listener that only sends clients to HTTPS.
fn to_https(head: &Parts) -> Result<Response<bytes::Bytes>, Fault> {
    let host = host::of_request(head.version, &head.uri, &head.headers)?;
    let name = host.as_ref().map_or("", |host| &*host.name);
    redirect::location("https://{host}{path}", name, head.uri.path(), head.uri.query())
        .map(|location| respond::redirect(StatusCode::PERMANENT_REDIRECT, location))
        .ok_or(Fault::BadRequest("a redirect to HTTPS needs a Host"))
}

/// The answer of a route that needs no backend.
fn answer(action: &RouteAction, head: &Parts) -> Result<Response<bytes::Bytes>, Fault> {
    Ok(match action {
        RouteAction::Redirect { to, status } => {
            let host = host::of_request(head.version, &head.uri, &head.headers);
            let host = host.ok().flatten();
            let host = host.as_ref().map_or("", |host| &*host.name);
            match redirect::location(to, host, head.uri.path(), head.uri.query()) {
                Some(location) => respond::redirect(*status, location),
                None => return Err(Fault::BadRequest("the redirect needs a Host")),
            }
        }
        RouteAction::Respond { status, body, headers } => {
            respond::fixed(*status, body, headers, &head.method)
        }
        // Routes to a service are forwarded before this is asked.
        RouteAction::Service(_) | RouteAction::Split(_) => return Err(Fault::Internal),
    })
}

/// Puts the answer into its last shape and lets go of what an own answer need not hold.
fn finish(client: &Client, outcome: Option<Outcome>, wants: Wants) -> Response<ResponseBody> {
    let mut closes = client.worker.stopping();
    let mut response = match outcome {
        Some(Outcome::Relayed(response)) => response,
        // Never: an exchange comes to its answer once.
        None => {
            let mut nothing = Response::new(ResponseBody::Own(bytes::Bytes::new()));
            *nothing.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            nothing
        }
        Some(Outcome::Own(mut response, mut exchange)) => {
            closes |= exchange.is_unread();
            if let Some(route) = exchange.route() {
                headers::apply(response.headers_mut(), &route.config.headers_out);
            }
            own(&mut exchange, response)
        }
        Some(Outcome::Fault(fault, mut exchange)) => {
            closes |= fault.closes() || exchange.is_unread();
            let retry_after = failure::retry_after(&fault);
            let method = exchange.method().clone();
            let accept = wants.accept.as_ref();
            let request_id = wants.request_id.as_str();
            let grpc = wants.grpc;
            let asked = Asked { method: &method, accept, request_id, grpc, retry_after };
            let mut response = respond::fault(&fault, asked);
            if let Some(route) = exchange.route() {
                headers::apply(response.headers_mut(), &route.config.headers_out);
            }
            failure::record(&fault, &mut exchange);
            own(&mut exchange, response)
        }
    };
    if wants.asked && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        client.stays();
    }
    if let Some(standing) = wants.standing {
        standing.write(response.headers_mut());
    }
    if let Some(alt_svc) = &client.alt_svc {
        // What the route says of it goes first.
        response.headers_mut().entry(header::ALT_SVC).or_insert_with(|| alt_svc.clone());
    }
    client.answers();
    if !client.speaks_http1() {
        // RFC 9113 §8.2.2
        response.headers_mut().remove(header::CONNECTION);
        client.turn.set(Some(Turn::Client));
    } else if closes && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = http::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

fn own(exchange: &mut Exchange, response: Response<bytes::Bytes>) -> Response<ResponseBody> {
    exchange.answered(response.status());
    exchange.sent(response.body().len());
    exchange.complete();
    response.map(ResponseBody::Own)
}
