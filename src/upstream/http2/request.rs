//! The head of a request as HTTP/2 has it (RFC 9113 §8.2.2, §8.3.1).

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use http_body::Body as _;

use crate::upstream::body::RequestBody;

/// What belongs to a connection of HTTP/1.
const OF_CONNECTION: [HeaderName; 5] = [
    // It names TE, which stays.
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Makes a request as HTTP/1.1 has it one of HTTP/2.
pub(super) fn prepare(request: &mut Request<RequestBody>, secure: bool) {
    address(request, secure);
    let length = request.body().size_hint().exact();
    let method = request.method();
    let bare = matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT);
    let headers = request.headers_mut();
    for name in &OF_CONNECTION {
        headers.remove(name);
    }
    if headers.get_all(header::TE).iter().any(|value| value != "trailers") {
        headers.remove(header::TE);
    }
    // As for HTTP/1: that there is no body is worth saying where one is usual (RFC 9110 §8.6).
    if let Some(length) = length
        && (length > 0 || !bare)
    {
        headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
}

/// Host becomes `:authority`.
fn address(request: &mut Request<RequestBody>, secure: bool) {
    let host = request.headers_mut().remove(header::HOST);
    let path = request.uri().path_and_query().cloned();
    let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    parts.path_and_query = path.or_else(|| Some(PathAndQuery::from_static("/")));
    // Host was checked; without an authority the target alone is sent.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
}
