//! Who a request is really from, and what the backend is told about it.
//!
//! What is believed of whom is written in interfaces.md "Headers"; [`super::headers::receive`]
//! has removed what a stranger may not say before anything here is called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::config::types as config;

use super::hops;
use super::request_id::{RequestId, is_token_byte};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Bytes that [`lines`] usually has.
const USUAL_LINES: usize = 256;

/// The other end of one client connection. Made once per connection (after a PROXY header).
#[derive(Debug, Clone)]
pub struct Peer {
    /// Never an IPv4 address mapped into IPv6.
    pub ip: IpAddr,
    /// It is one of the listener's `trusted_proxies`.
    pub trusted: bool,
    pub tls: bool,
    /// `ip` as text, ready to be sent.
    text: HeaderValue,
}

impl Peer {
    pub fn new(ip: IpAddr, tls: bool, trusted_proxies: &[IpNet]) -> Self {
        let ip = ip.to_canonical();
        Self { ip, trusted: is_trusted(ip, trusted_proxies), tls, text: ip_value(ip) }
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// Whether the client came by TLS, to us or to the trusted proxy before us.
pub fn is_https(headers: &HeaderMap, peer: &Peer) -> bool {
    let says = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"https");
    peer.tls || peer.trusted && headers.get(&X_FORWARDED_PROTO).is_some_and(says)
}

fn ip_value(ip: IpAddr) -> HeaderValue {
    let text = match ip {
        IpAddr::V4(ip) => HeaderValue::from_bytes(&dotted(ip)),
        IpAddr::V6(ip) => HeaderValue::try_from(ip.to_string()),
    };
    text.expect("an address is printable ASCII")
}

/// As `Display` writes it, which takes a thousand instructions: every new connection has an address.
fn dotted(ip: Ipv4Addr) -> SmallVec<[u8; 16]> {
    let mut text = SmallVec::new();
    for (at, byte) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            text.push(b'.');
        }
        for (least, unit) in [(100, 100), (10, 10), (0, 1)] {
            if byte >= least {
                text.push(b'0' + byte / unit % 10);
            }
        }
    }
    text
}

fn is_trusted(ip: IpAddr, trusted_proxies: &[IpNet]) -> bool {
    trusted_proxies.iter().any(|net| net.contains(&ip))
}

/// The first untrusted address from the right, starting with the peer itself. What cannot be
/// read ends the search: the address found last is the answer. X-Forwarded-For goes before
/// Forwarded, as a proxy that writes the one may pass on the other as a stranger sent it.
pub(super) fn client(headers: &HeaderMap, peer: &Peer, trusted_proxies: &[IpNet]) -> IpAddr {
    if !peer.trusted {
        return peer.ip;
    }
    let mut nearest = peer.ip;
    let mut step = |node: Option<IpAddr>| {
        let Some(ip) = node else { return false };
        nearest = ip;
        is_trusted(ip, trusted_proxies)
    };
    let mut lists = headers.get_all(&X_FORWARDED_FOR).iter().rev().peekable();
    if lists.peek().is_some() {
        let nodes = lists.flat_map(|list| list.as_bytes().rsplit(|&byte| byte == b','));
        for node in nodes {
            if !node.trim_ascii().is_empty() && !step(parse_node(node)) {
                break;
            }
        }
    } else {
        for list in headers.get_all(header::FORWARDED).iter().rev() {
            if !forwarded_for(list.as_bytes()).into_iter().rev().all(&mut step) {
                break;
            }
        }
    }
    nearest
}

/// `for=` of every element of a Forwarded value, in order; `None` where there is none that is
/// an address. Commas and semicolons within quotes belong to the text.
fn forwarded_for(list: &[u8]) -> SmallVec<[Option<IpAddr>; 4]> {
    let mut nodes = SmallVec::new();
    let mut node = None;
    let mut quoted = false;
    let mut escaped = false;
    let mut start = 0;
    for end in 0..=list.len() {
        let byte = list.get(end).copied().unwrap_or(b',');
        let is_end = end == list.len();
        if quoted && !is_end {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b';' | b',' => {
                let pair = list[start..end].trim_ascii();
                if let Some((name, value)) = pair.split_at_checked(4)
                    && name.eq_ignore_ascii_case(b"for=")
                {
                    node = parse_node(value);
                }
                start = end + 1;
                if byte == b',' {
                    nodes.push(node.take());
                }
            }
            _ => {}
        }
    }
    nodes
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`, each also in quotes.
fn parse_node(node: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(node).ok()?.trim().trim_matches('"');
    let ip = if let Some(rest) = text.strip_prefix('[') {
        IpAddr::V6(rest.split_once(']')?.0.parse::<Ipv6Addr>().ok()?)
    } else if let Ok(ip) = text.parse() {
        ip
    } else {
        IpAddr::V4(*text.parse::<SocketAddrV4>().ok()?.ip())
    };
    Some(ip.to_canonical())
}

/// Tells the backend who asked: X-Forwarded-For/-Proto/-Host or Forwarded (RFC 7239).
/// After [`super::headers::receive`], once per request (not per try).
/// `host` is the host as the client wrote it.
pub fn announce(
    headers: &mut HeaderMap,
    how: config::Forwarded,
    peer: &Peer,
    client: IpAddr,
    host: Option<&HeaderValue>,
) {
    use config::Forwarded::{Both, Rfc7239, XForwarded};
    // Before anything is set, as the one may be filled in from the other.
    let element = matches!(how, Rfc7239 | Both).then(|| forwarded(headers, peer, client, host));
    if matches!(how, XForwarded | Both) {
        let chain =
            if peer.trusted { x_forwarded_for(headers, peer, client) } else { peer.text.clone() };
        headers.insert(X_FORWARDED_FOR.clone(), chain);
        // A trusted proxy knows better how the client came, if it says so.
        if !(peer.trusted && headers.contains_key(&X_FORWARDED_PROTO)) {
            headers.insert(X_FORWARDED_PROTO.clone(), HeaderValue::from_static(peer.scheme()));
        }
        if let Some(host) = host
            && !(peer.trusted && headers.contains_key(&X_FORWARDED_HOST))
        {
            headers.insert(X_FORWARDED_HOST.clone(), host.clone());
        }
    }
    if let Some(element) = element {
        headers.insert(header::FORWARDED, element);
    }
}

/// What a stranger's request gets without a Via of others: Via, X-Forwarded-For/-Proto/-Host, and X-Request-Id if
/// that is aside, as [`announce`] and [`hops::via`] would put them into its head, which has none of them. As lines of HTTP/1.1:
/// nobody but its backend reads them.
pub fn lines(
    version: Version,
    peer: &Peer,
    host: Option<&HeaderValue>,
    id: Option<&RequestId>,
) -> Vec<u8> {
    let mut lines = Vec::with_capacity(USUAL_LINES);
    let mut put = |part: &[u8]| lines.extend_from_slice(part);
    put(b"via: ");
    put(hops::own_via(version).as_bytes());
    put(b"\r\nx-forwarded-for: ");
    put(peer.text.as_bytes());
    put(match peer.tls {
        true => b"\r\nx-forwarded-proto: https\r\n",
        false => b"\r\nx-forwarded-proto: http\r\n",
    });
    if let Some(host) = host {
        put(b"x-forwarded-host: ");
        put(host.as_bytes());
        put(b"\r\n");
    }
    if let Some(id) = id {
        put(b"x-request-id: ");
        put(id.as_bytes());
        put(b"\r\n");
    }
    lines
}

/// What the trusted peer sent and the peer itself.
fn x_forwarded_for(headers: &HeaderMap, peer: &Peer, client: IpAddr) -> HeaderValue {
    let mut chain: Vec<u8> = Vec::with_capacity(64);
    for list in headers.get_all(&X_FORWARDED_FOR) {
        chain.extend_from_slice(list.as_bytes());
        chain.extend_from_slice(b", ");
    }
    if chain.is_empty() && client != peer.ip {
        chain.extend_from_slice(client.to_string().as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.text.as_bytes());
    // Values that came in go out again: only bytes that may stand in one.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)).unwrap_or_else(|_| peer.text.clone())
}

/// What the trusted peer sent and an element for the peer: `for=1.2.3.4;host=a.test;proto=https`.
fn forwarded(
    headers: &HeaderMap,
    peer: &Peer,
    client: IpAddr,
    host: Option<&HeaderValue>,
) -> HeaderValue {
    let mut out: Vec<u8> = Vec::with_capacity(96);
    if peer.trusted {
        for list in headers.get_all(header::FORWARDED) {
            out.extend_from_slice(list.as_bytes());
            out.extend_from_slice(b", ");
        }
        if out.is_empty() && client != peer.ip {
            push_for(&mut out, client, &ip_value(client));
            out.extend_from_slice(b", ");
        }
    }
    push_for(&mut out, peer.ip, &peer.text);
    if let Some(host) = host {
        out.extend_from_slice(b";host=");
        push_quoted(&mut out, host.as_bytes());
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(peer.scheme().as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(out)).unwrap_or_else(|_| peer.text.clone())
}

/// IPv6 goes in brackets and quotes (RFC 7239 §6).
fn push_for(out: &mut Vec<u8>, ip: IpAddr, text: &HeaderValue) {
    let (open, close): (&[u8], &[u8]) = if ip.is_ipv6() { (b"\"[", b"]\"") } else { (b"", b"") };
    for part in [b"for=".as_slice(), open, text.as_bytes(), close] {
        out.extend_from_slice(part);
    }
}

/// A token as it is, anything else as a quoted string.
fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    if !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte)) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::headers;

    #[test]
    fn an_address_is_written_as_by_display() {
        for byte in 0..=u8::MAX {
            let ip = Ipv4Addr::new(byte, 0, 255 - byte, byte / 3);
            assert_eq!(ip_value(ip.into()), ip.to_string());
        }
        let ip = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
        assert_eq!(ip_value(ip), "2001:db8::1");
    }

    #[test]
    fn lines_say_what_the_head_would() {
        let host = HeaderValue::from_static("a.test:8443");
        for (version, tls, host, ip) in [
            (Version::HTTP_11, false, Some(&host), "192.0.2.1"),
            (Version::HTTP_10, true, None, "2001:db8::1"),
            (Version::HTTP_2, true, Some(&host), "::ffff:192.0.2.1"),
            (Version::HTTP_3, true, Some(&host), "192.0.2.1"),
        ] {
            let peer = Peer::new(ip.parse().expect("an address"), tls, &[]);
            let mut rng = fastrand::Rng::with_seed(1);
            let mut headers = HeaderMap::new();
            let mut received = headers::receive(&mut headers, version, &peer, &[], &mut rng);
            assert!(headers.is_empty() && received.id_aside);
            let lines = lines(version, &peer, host, Some(&received.id));
            received.put_id(&mut headers);
            hops::via(&mut headers, version, false);
            announce(&mut headers, config::Forwarded::XForwarded, &peer, received.client, host);
            let text = str::from_utf8(&lines).expect("text");
            let mut said: Vec<_> = text.split_terminator("\r\n").map(str::to_owned).collect();
            let line = |(name, value): (&HeaderName, &HeaderValue)| {
                format!("{name}: {}", value.to_str().expect("text"))
            };
            let mut expected: Vec<_> = headers.iter().map(line).collect();
            said.sort();
            expected.sort();
            assert_eq!(said, expected);
        }
    }
}
