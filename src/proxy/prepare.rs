//! What a backend gets to see: the client's request with its target rewritten, the route's
//! headers set, and the client's address announced. Done once, whatever the number of tries.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Uri, Version, header};

use crate::config::types as config;
use crate::http::client::Client;
use crate::http::headers::{self, Received};
use crate::http::{forwarded, hops};
use crate::snapshot::RouteView;

/// RFC 9440
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_SUBJECT: HeaderName = HeaderName::from_static("client-cert-subject");

/// Fields that most requests get: Host, Via, X-Request-Id and three X-Forwarded.
const ADDED: usize = 6;

/// What is not in the head.
pub struct Prepared {
    /// The Host that the client sent.
    pub host: Option<HeaderValue>,
    /// It is what the head says still.
    pub host_in_place: bool,
    /// Fields that go behind those of the head.
    pub lines: Vec<u8>,
}

/// Makes the head ready for any backend; only Host may still depend on which. The client's own
/// Host is given back, for `host = "preserve"`.
pub fn request(
    client: &Client,
    route: &RouteView,
    service: &config::Service,
    received: &mut Received,
    head: &mut Parts,
    rewritten: Option<PathAndQuery>,
) -> Prepared {
    let host = headers::host_value(&head.uri, &head.headers);
    let rules = &route.config.headers_in;
    let has_rules = !rules.set.is_empty() || !rules.remove.is_empty();
    let host_in_place = head.uri.authority().is_none() && !has_rules && host.is_some();
    set_target(head, rewritten);
    if received.has.expect {
        // The client's wait for a 100 ends when its body is first read (RFC 9110 §10.1.1).
        head.headers.remove(header::EXPECT);
    }
    if head.version >= Version::HTTP_2 {
        headers::join_cookies(&mut head.headers);
    }
    let version = std::mem::replace(&mut head.version, Version::HTTP_11);
    if let Some(shown) = client.proven.as_ref().and_then(|proven| proven.certificate.as_ref()) {
        head.headers.insert(CLIENT_CERT, shown.certificate.clone());
        head.headers.insert(CLIENT_CERT_SUBJECT, shown.subject.clone());
    }
    let apart = !has_rules
        && !client.peer.trusted
        && !received.has.via
        && route.mirror.is_none()
        && service.forwarded == config::Forwarded::XForwarded
        && service.transport.protocol == config::Protocol::Http1;
    let lines = if apart {
        let id = received.id_aside.then_some(&received.id);
        forwarded::lines(version, &client.peer, host.as_ref(), id)
    } else {
        let headers = &mut head.headers;
        headers.reserve(ADDED);
        received.put_id(headers);
        hops::via(headers, version, received.has.via);
        headers::apply(headers, rules);
        let how = service.forwarded;
        forwarded::announce(headers, how, &client.peer, received.client, host.as_ref());
        Vec::new()
    };
    Prepared { host, host_in_place, lines }
}

/// Origin-form (RFC 9112 §3.2.1): HTTP/2, HTTP/3 and absolute-form targets lose their authority here.
fn set_target(head: &mut Parts, rewritten: Option<PathAndQuery>) {
    let is_origin_form = head.uri.authority().is_none() && head.uri.scheme().is_none();
    if rewritten.is_none() && is_origin_form {
        return;
    }
    let target = rewritten.or_else(|| head.uri.path_and_query().cloned());
    head.uri = match target {
        Some(target) => Uri::from(target),
        None if head.method == Method::OPTIONS => Uri::from_static("*"),
        None => Uri::from_static("/"),
    };
}
