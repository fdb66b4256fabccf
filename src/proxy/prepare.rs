//! What a backend gets to see: the client's request with its target rewritten, the route's
//! headers set, and the client's address announced. Done once, whatever the number of tries.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Uri, Version, header};

use crate::config::types as config;
use crate::http::client::Client;
use crate::http::headers::{self, Received};
use crate::http::hops;
use crate::snapshot::RouteView;

/// RFC 9440
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_SUBJECT: HeaderName = HeaderName::from_static("client-cert-subject");

/// The Host that the client sent.
pub struct Host {
    pub value: Option<HeaderValue>,
    /// It is what the head says still.
    pub in_place: bool,
}

/// Makes the head ready for any backend; only Host may still depend on which. The client's own
/// Host is given back, for `host = "preserve"`.
pub fn request(
    client: &Client,
    route: &RouteView,
    received: &Received,
    head: &mut Parts,
    rewritten: Option<PathAndQuery>,
    forwarded: config::Forwarded,
) -> Host {
    let host = headers::host_value(&head.uri, &head.headers);
    let rules = &route.config.headers_in;
    let in_place =
        head.uri.authority().is_none() && rules.set.is_empty() && rules.remove.is_empty();
    set_target(head, rewritten);
    if received.has.expect {
        // The client's wait for a 100 ends when its body is first read (RFC 9110 §10.1.1).
        head.headers.remove(header::EXPECT);
    }
    if head.version >= Version::HTTP_2 {
        headers::join_cookies(&mut head.headers);
    }
    hops::via(&mut head.headers, head.version, received.has.via);
    head.version = Version::HTTP_11;
    if let Some(shown) = client.proven.as_ref().and_then(|proven| proven.certificate.as_ref()) {
        head.headers.insert(CLIENT_CERT, shown.certificate.clone());
        head.headers.insert(CLIENT_CERT_SUBJECT, shown.subject.clone());
    }
    headers::apply(&mut head.headers, rules);
    crate::http::forwarded::announce(
        &mut head.headers,
        forwarded,
        &client.peer,
        received.client,
        host.as_ref(),
    );
    Host { in_place: in_place && host.is_some(), value: host }
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
