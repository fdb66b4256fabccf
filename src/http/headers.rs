//! Headers that belong to one connection only, and headers that strangers may not set.
//!
//! One pass over the names finds what needs attention; for most requests that is nothing, and
//! no second look is taken. Removal comes before routing, so that a route's header conditions
//! never see what a stranger made up.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::config::types as config;

use super::forwarded::{self, Peer};
use super::request_id::{RequestId, X_REQUEST_ID, is_short_token};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Names to remove; most requests have none or one.
type Doomed = SmallVec<[HeaderName; 4]>;

/// What [`receive`] learnt on its way through the headers.
#[derive(Debug, Clone)]
pub struct Received {
    /// The first untrusted address from the right.
    pub client: IpAddr,
    pub id: RequestId,
    /// The head does not say the id: it is to be added, see [`Received::put_id`].
    pub id_aside: bool,
    /// There was an Upgrade of any kind.
    pub asked: bool,
    /// The client asks to upgrade (never to h2c); `Upgrade` and `Connection: upgrade` are still there.
    pub upgrade: bool,
    pub has: Has,
}

impl Received {
    /// Puts the id into the head, if it is not there.
    pub fn put_id(&mut self, headers: &mut HeaderMap) {
        if std::mem::take(&mut self.id_aside) {
            headers.insert(X_REQUEST_ID.clone(), self.id.value());
        }
    }
}

/// Headers that there may be: those that are not need not be looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Has {
    pub accept: bool,
    pub content_type: bool,
    pub expect: bool,
    pub referer: bool,
    pub user_agent: bool,
    pub via: bool,
}

/// What a header is to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Ordinary,
    Accept,
    ContentType,
    Expect,
    Referer,
    UserAgent,
    Via,
    Connection,
    Te,
    Upgrade,
    /// For one connection only, or meant for a proxy: never passed on.
    Hop,
    /// Forwarded, X-Forwarded-*, X-Real-IP
    Forwarded,
    RequestId,
    Trace,
    /// What only we say of a client's certificate.
    Proof,
    /// One of ours with `_` for `-`, which CGI-like backends take for the same.
    Lookalike,
}

/// First thing done with a request, before routing looks at its headers: removes hop-by-hop
/// headers and whatever an untrusted peer may not say, finds the client, makes an id.
///
/// X-Request-Id is that id, or is not there: [`Received::put_id`] puts it in for whoever looks at the head.
///
/// Transfer-Encoding stays, as it tells hyper's client how to frame the body; hyper's server
/// has made sure that it ends in `chunked`. Expect stays, too.
pub fn receive(
    headers: &mut HeaderMap,
    version: Version,
    peer: &Peer,
    trusted_proxies: &[IpNet],
    rng: &mut fastrand::Rng,
) -> Received {
    let mut doomed = Doomed::new();
    let (mut connection, mut te, mut upgrade) = (false, false, false);
    let (mut forwarded, mut request_id, mut trace) = (false, false, false);
    let mut has = Has::default();
    for name in headers.keys() {
        match classify(name.as_str()) {
            Class::Ordinary => {}
            Class::Accept => has.accept = true,
            Class::ContentType => has.content_type = true,
            Class::Expect => has.expect = true,
            Class::Referer => has.referer = true,
            Class::UserAgent => has.user_agent = true,
            Class::Via => has.via = true,
            Class::Connection => connection = true,
            Class::Te => te = true,
            Class::Upgrade => upgrade = true,
            Class::RequestId => request_id = true,
            Class::Forwarded if peer.trusted => forwarded = true,
            Class::Trace if peer.trusted => trace = true,
            Class::Hop | Class::Proof | Class::Lookalike | Class::Forwarded | Class::Trace => {
                doomed.push(name.clone());
            }
        }
    }
    let asks = if connection { take_connection(headers, &mut doomed) } else { Asks::default() };
    for name in &doomed {
        headers.remove(name);
    }
    let asked = upgrade;
    let upgrade = upgrade && keep_upgrade(headers, asks.upgrade && version == Version::HTTP_11);
    if te {
        keep_te(headers, upgrade);
    }
    if trace {
        check_trace(headers);
    }
    let client =
        if forwarded { forwarded::client(headers, peer, trusted_proxies) } else { peer.ip };
    let given = if request_id && peer.trusted { given_id(headers) } else { None };
    let id_aside = given.is_none();
    if id_aside && request_id {
        headers.remove(&X_REQUEST_ID);
    }
    let id = given.unwrap_or_else(|| RequestId::generate(rng));
    Received { client, id, id_aside, asked, upgrade, has }
}

/// HTTP/2 may split Cookie into several fields; HTTP/1.1 wants them in one (RFC 9113 §8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    // Values that were valid apart are valid together.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Removes from a backend's answer what belongs to its connection. With status 101 Upgrade stays.
pub fn receive_response(headers: &mut HeaderMap, status: StatusCode) {
    let mut doomed = Doomed::new();
    let (mut connection, mut upgrade) = (false, false);
    for name in headers.keys() {
        match classify(name.as_str()) {
            Class::Connection => connection = true,
            Class::Upgrade => upgrade = true,
            Class::Te | Class::Hop => doomed.push(name.clone()),
            _ if name == header::TRANSFER_ENCODING => doomed.push(name.clone()),
            _ => {}
        }
    }
    if connection {
        take_connection(headers, &mut doomed);
    }
    for name in &doomed {
        headers.remove(name);
    }
    if upgrade {
        keep_upgrade(headers, status == StatusCode::SWITCHING_PROTOCOLS);
    }
}

/// The Host that the client sent, as one value, whether it came as Host or as an authority:
/// what X-Forwarded-Host says and `host = "preserve"` sends. `None` for HTTP/1.0 without one.
pub fn host_value(uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => headers.get(header::HOST).cloned(),
    }
}

/// Sets Host for one try. `preserved` comes from [`host_value`]; `backend` is the backend's
/// authority, which is also sent when there is nothing to preserve: HTTP/1.1 needs a Host.
pub fn set_host(
    headers: &mut HeaderMap,
    rule: &config::HostRule,
    preserved: Option<&HeaderValue>,
    backend: &HeaderValue,
) {
    let value = match rule {
        config::HostRule::Preserve => preserved.unwrap_or(backend),
        config::HostRule::Backend => backend,
        config::HostRule::Fixed(name) => name,
    };
    if headers.get(header::HOST) != Some(value) {
        headers.insert(header::HOST, value.clone());
    }
}

/// `headers_in` and `headers_out`: removes, then sets.
pub fn apply(headers: &mut HeaderMap, rules: &config::HeaderRules) {
    for name in &rules.remove {
        headers.remove(name);
    }
    for (name, value) in &rules.set {
        headers.insert(name.clone(), value.clone());
    }
}

#[derive(Debug, Default)]
struct Asks {
    upgrade: bool,
}

/// Removes Connection; what it names is doomed, except headers that are no connection's own:
/// a client must not be able to take away what the backend relies on.
fn take_connection(headers: &mut HeaderMap, doomed: &mut Doomed) -> Asks {
    let mut asks = Asks::default();
    for value in headers.get_all(header::CONNECTION) {
        for option in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"upgrade") {
                asks.upgrade = true;
            } else if !option.eq_ignore_ascii_case(b"keep-alive")
                && !option.eq_ignore_ascii_case(b"close")
                && let Ok(name) = HeaderName::from_bytes(option)
                && !is_protected(&name)
                && headers.contains_key(&name)
            {
                doomed.push(name);
            }
        }
    }
    headers.remove(header::CONNECTION);
    asks
}

/// Meant for the recipient of the content (RFC 9110 §7.6.1), or handled by itself here.
fn is_protected(name: &HeaderName) -> bool {
    const PROTECTED: [HeaderName; 17] = [
        header::ACCEPT,
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::DATE,
        header::EXPECT,
        header::HOST,
        header::ORIGIN,
        header::RANGE,
        header::SET_COOKIE,
        header::TE,
        header::TRANSFER_ENCODING,
        header::VIA,
    ];
    PROTECTED.contains(name)
        || matches!(classify(name.as_str()), Class::Forwarded | Class::RequestId | Class::Trace)
}

/// Keeps Upgrade with its connection option, or removes it. Never h2c: the backend would then
/// speak HTTP/2 to the client past everything that is checked here.
fn keep_upgrade(headers: &mut HeaderMap, wanted: bool) -> bool {
    let to_http2 = |value: &HeaderValue| {
        let mut protocols = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        protocols.any(|p| p.len() >= 2 && p[..2].eq_ignore_ascii_case(b"h2"))
    };
    let keep = wanted && !headers.get_all(header::UPGRADE).iter().any(to_http2);
    if keep {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(header::UPGRADE);
    }
    keep
}

/// Of TE only `trailers` concerns the backend, with its connection option (RFC 9110 §10.1.4).
fn keep_te(headers: &mut HeaderMap, upgrade: bool) {
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        let mut codings = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        codings.any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    });
    if trailers && !upgrade {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    } else {
        headers.remove(header::TE);
    }
}

/// tracestate means nothing without a traceparent.
fn check_trace(headers: &mut HeaderMap) {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let valid = values.next().is_some_and(is_short_token) && values.next().is_none();
    if !valid {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
}

/// The id that a trusted peer sent, if it is one value that can be taken over.
fn given_id(headers: &HeaderMap) -> Option<RequestId> {
    let mut values = headers.get_all(&X_REQUEST_ID).iter();
    let id = RequestId::given(values.next()?)?;
    values.next().is_none().then_some(id)
}

/// The first letter decides for nearly all.
#[inline]
fn classify(name: &str) -> Class {
    match name.as_bytes()[0] {
        b'a' if name == "accept" => Class::Accept,
        b'c' if name == "connection" => Class::Connection,
        b'c' if name == "content-type" => Class::ContentType,
        b'c' if is_proof(name.as_bytes()) => Class::Proof,
        b'e' if name == "expect" => Class::Expect,
        b'f' if name == "forwarded" => Class::Forwarded,
        b'h' if name == "http2-settings" => Class::Hop,
        b'k' if name == "keep-alive" => Class::Hop,
        b'p' => match name {
            // `Proxy` becomes HTTP_PROXY in CGI.
            "proxy"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection" => Class::Hop,
            _ => Class::Ordinary,
        },
        b'r' if name == "referer" => Class::Referer,
        b't' => match name {
            "te" => Class::Te,
            TRACEPARENT | TRACESTATE => Class::Trace,
            _ => Class::Ordinary,
        },
        b'u' if name == "upgrade" => Class::Upgrade,
        b'u' if name == "user-agent" => Class::UserAgent,
        b'v' if name == "via" => Class::Via,
        b'x' => classify_x(name.as_bytes()),
        _ => Class::Ordinary,
    }
}

/// `client-cert` and `client-cert-chain` (RFC 9440), `client-cert-subject`, also with underscores. From
/// nobody: a proxy before us that is trusted with addresses is not trusted with identities.
fn is_proof(name: &[u8]) -> bool {
    let start = b"client-cert";
    let dashed = name.iter().map(|&byte| if byte == b'_' { b'-' } else { byte });
    name.len() >= start.len()
        && dashed.zip(start).all(|(byte, &known)| byte == known)
        && matches!(name.get(start.len()), None | Some(b'-' | b'_'))
}

fn classify_x(name: &[u8]) -> Class {
    let same = |known: &[u8]| {
        let with_dash = |&byte: &u8| if byte == b'_' { b'-' } else { byte };
        name.len() >= known.len() && name.iter().map(with_dash).zip(known).all(|(a, &b)| a == b)
    };
    let exactly = |known: &[u8]| name.len() == known.len() && same(known);
    let forwarded = b"x-forwarded";
    let class = if same(forwarded) && matches!(name.get(forwarded.len()), None | Some(b'-' | b'_'))
        || exactly(b"x-real-ip")
    {
        Class::Forwarded
    } else if exactly(b"x-request-id") {
        Class::RequestId
    } else {
        return Class::Ordinary;
    };
    if name.contains(&b'_') { Class::Lookalike } else { class }
}
