//! WebSocket's opening in its two forms: as an Upgrade of HTTP/1.1 (RFC 6455 §4) and as an extended CONNECT of
//! HTTP/2 (RFC 8441). What is carried afterwards is the same, and nobody here looks at it.
//!
//! Within, every opening has the form of HTTP/1.1; at the edges that speak HTTP/2 it is changed. There `:protocol` is
//! an extension of the request.

use aws_lc_rs::digest;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

use crate::base64;

const NAME: &str = "websocket";
/// RFC 6455 §1.3
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request is an extended CONNECT for WebSocket.
pub fn is_connect(head: &Parts) -> bool {
    head.method == Method::CONNECT
        && head.extensions.get::<h2::ext::Protocol>().is_some_and(|to| to.as_str() == NAME)
}

/// Makes such a request the one that HTTP/1.1 has for it; the key that its answer has to prove.
pub fn from_connect(head: &mut Parts, nonce: [u8; 16]) -> HeaderValue {
    head.method = Method::GET;
    head.extensions.remove::<h2::ext::Protocol>();
    let key = HeaderValue::try_from(base64::encode(&nonce)).expect("base64 is ASCII");
    head.headers.insert(header::SEC_WEBSOCKET_KEY, key.clone());
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(header::UPGRADE, HeaderValue::from_static(NAME));
    key
}

/// Whether a request of HTTP/1.1 with these headers is an opening.
pub fn is_opening(headers: &HeaderMap) -> bool {
    headers.contains_key(header::SEC_WEBSOCKET_KEY)
        && headers
            .get(header::UPGRADE)
            .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(NAME.as_bytes()))
}

/// Makes an opening of HTTP/1.1 an extended CONNECT, whose target is made by the caller; its key. `None`: it
/// asks for something else, and nothing is changed.
pub fn to_connect<B>(request: &mut Request<B>) -> Option<HeaderValue> {
    if !is_opening(request.headers()) {
        return None;
    }
    let key = request.headers_mut().remove(header::SEC_WEBSOCKET_KEY)?;
    for name in [header::UPGRADE, header::CONNECTION] {
        request.headers_mut().remove(name);
    }
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(h2::ext::Protocol::from_static(NAME));
    Some(key)
}

/// Makes the 200 that accepts an extended CONNECT the 101 of HTTP/1.1.
pub fn accepted(status: &mut StatusCode, headers: &mut HeaderMap, key: &HeaderValue) {
    *status = StatusCode::SWITCHING_PROTOCOLS;
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(NAME));
    let proof = HeaderValue::try_from(accept(key.as_bytes())).expect("base64 is ASCII");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, proof);
}

/// Makes a 101 the 200 that accepts an extended CONNECT; false: it does not prove the key.
pub fn accept_connect(status: &mut StatusCode, headers: &mut HeaderMap, key: &HeaderValue) -> bool {
    let proof = headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    let upgrade = headers.remove(header::UPGRADE);
    headers.remove(header::CONNECTION);
    headers.remove(HeaderName::from_static("keep-alive"));
    *status = StatusCode::OK;
    let is = |value: Option<HeaderValue>, text: &str| {
        value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(text.as_bytes()))
    };
    let wanted = accept(key.as_bytes());
    is(upgrade, NAME) && proof.is_some_and(|proof| proof.as_bytes() == wanted.as_bytes())
}

/// `base64(sha1(key + GUID))`, RFC 6455 §4.2.2.
pub fn accept(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    base64::encode(hash.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HeaderValue = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");

    #[test]
    fn the_example_of_rfc_6455() {
        assert_eq!(accept(KEY.as_bytes()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_opening_goes_to_and_fro() {
        let to = h2::ext::Protocol::from_static(NAME);
        let request = Request::connect("http://a/chat").extension(to);
        let (mut head, ()) = request.body(()).expect("valid").into_parts();
        assert!(is_connect(&head));
        let key = from_connect(&mut head, [7; 16]);
        assert_eq!((&head.method, head.headers.len()), (&Method::GET, 3));
        assert!(!is_connect(&head));
        let mut request = Request::from_parts(head, ());
        assert_eq!(to_connect(&mut request), Some(key));
        let (head, ()) = request.into_parts();
        assert!(head.method == Method::CONNECT && head.headers.is_empty());
        let to = head.extensions.get::<h2::ext::Protocol>();
        assert_eq!(to.map(h2::ext::Protocol::as_str), Some(NAME));
    }

    #[test]
    fn other_protocols_stay_as_they_are() {
        let mut request = Request::get("/").header("upgrade", "other").body(()).expect("valid");
        assert_eq!(to_connect(&mut request), None);
        assert_eq!(request.headers().len(), 1);
        let connect = Request::connect("a:443").body(()).expect("valid").into_parts().0;
        assert!(!is_connect(&connect));
    }

    #[test]
    fn only_the_keys_own_proof_is_accepted() {
        let (mut status, mut headers) = (StatusCode::OK, HeaderMap::new());
        accepted(&mut status, &mut headers, &KEY);
        assert_eq!((status.as_u16(), headers.len()), (101, 3));
        let mut copy = headers.clone();
        assert!(accept_connect(&mut status, &mut headers, &KEY));
        assert!(status == 200 && headers.is_empty());
        let other = HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA==");
        assert!(!accept_connect(&mut status, &mut copy, &other));
    }
}
