//! Which host a request is for.
//!
//! Strict, because what passes here is matched against routes, written into redirects and told
//! to backends: letters, digits, `-`, `.`, `_`, `~`, or an IPv6 address in brackets.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::{HeaderMap, Uri, Version, header};

/// The host of a request, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a> {
    /// Lower case, without port, without a final dot; an IPv6 address stands in brackets.
    pub name: Cow<'a, str>,
    pub port: Option<u16>,
    /// As the client wrote it: `host[:port]`.
    pub written: &'a str,
}

/// Why a request is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("the request has no Host")]
    Missing,
    #[error("the request has more than one Host")]
    Duplicate,
    #[error("the Host is not valid")]
    Invalid,
    /// HTTP/2: `:authority` and Host name different hosts (RFC 9113 §8.3.1).
    #[error("the Host differs from the authority")]
    Mismatch,
}

impl HostError {
    /// The same as its `Display`, without an allocation.
    pub fn text(self) -> &'static str {
        match self {
            Self::Missing => "the request has no Host",
            Self::Duplicate => "the request has more than one Host",
            Self::Invalid => "the Host is not valid",
            Self::Mismatch => "the Host differs from the authority",
        }
    }
}

/// The host of a request: its target's authority if it has one (RFC 9112 §3.2.2), else Host.
/// `None` only for HTTP/1.0 without one.
pub fn of_request<'a>(
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Result<Option<Host<'a>>, HostError> {
    let sent = match headers.get(header::HOST) {
        None => None,
        // Usually no field is there twice.
        Some(_)
            if headers.len() > headers.keys_len()
                && headers.get_all(header::HOST).iter().nth(1).is_some() =>
        {
            return Err(HostError::Duplicate);
        }
        Some(value) => Some(parse(value.to_str().map_err(|_| HostError::Invalid)?)?),
    };
    let Some(authority) = uri.authority() else {
        return match sent {
            None if version > Version::HTTP_10 => Err(HostError::Missing),
            sent => Ok(sent),
        };
    };
    let target = parse(authority.as_str())?;
    match sent {
        None if version == Version::HTTP_11 => Err(HostError::Missing),
        Some(sent)
            if version >= Version::HTTP_2
                && (&sent.name, sent.port) != (&target.name, target.port) =>
        {
            Err(HostError::Mismatch)
        }
        _ => Ok(Some(target)),
    }
}

/// Takes `host[:port]` apart; no user-info. An empty port (`host:`) is none (RFC 3986 §3.2.3).
pub fn parse(written: &str) -> Result<Host<'_>, HostError> {
    let (name, port) = match written.strip_prefix('[') {
        Some(rest) => {
            let (address, _) = rest.split_once(']').ok_or(HostError::Invalid)?;
            address.parse::<Ipv6Addr>().map_err(|_| HostError::Invalid)?;
            let (name, after) = written.split_at(address.len() + 2);
            match after.strip_prefix(':') {
                None if after.is_empty() => (name, ""),
                None => return Err(HostError::Invalid),
                Some(port) => (name, port),
            }
        }
        None => return parse_name(written),
    };
    let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
    Ok(Host { name, port: parse_port(port)?, written })
}

/// What a byte is to a name: one of these, or [`OTHER`].
const PLAIN: u8 = 1;
const DOT: u8 = 2;
const UPPER: u8 = 4;
/// Behind it comes the port.
const COLON: u8 = 8;
const OTHER: u8 = 0;

const KINDS: [u8; 256] = {
    let mut kinds = [OTHER; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        kinds[byte as usize] = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => PLAIN,
            b'A'..=b'Z' => UPPER,
            b'.' => DOT,
            b':' => COLON,
            _ => OTHER,
        };
        byte += 1;
    }
    kinds
};

/// A name, or an IPv4 address, in one pass.
fn parse_name(written: &str) -> Result<Host<'_>, HostError> {
    let (mut end, mut previous, mut all) = (0, DOT, 0);
    for byte in written.bytes() {
        let kind = KINDS[usize::from(byte)];
        if kind == COLON {
            break;
        }
        if kind == OTHER || kind & previous & DOT != 0 {
            return Err(HostError::Invalid);
        }
        (end, previous, all) = (end + 1, kind, all | kind);
    }
    let port = written.get(end + 1..).unwrap_or_default();
    // Its final dot is no part of it.
    let length = end - usize::from(end > 0 && previous == DOT);
    if length == 0 || length > 253 {
        return Err(HostError::Invalid);
    }
    let name = &written[..length];
    let name =
        if all & UPPER != 0 { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
    Ok(Host { name, port: parse_port(port)?, written })
}

/// Digits, or nothing.
fn parse_port(digits: &str) -> Result<Option<u16>, HostError> {
    let mut port = 0_u32;
    for byte in digits.bytes() {
        let digit = byte.wrapping_sub(b'0');
        port = port * 10 + u32::from(digit);
        // Looked at each time, so it does not outgrow its type.
        if digit > 9 || port > u32::from(u16::MAX) {
            return Err(HostError::Invalid);
        }
    }
    Ok((!digits.is_empty()).then_some(port as u16))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn parts() {
        for (written, name, port) in [
            ("example.com", "example.com", None),
            ("Example.COM", "example.com", None),
            ("example.com.", "example.com", None),
            ("example.com:80", "example.com", Some(80)),
            ("example.com.:8080", "example.com", Some(8080)),
            ("example.com:", "example.com", None),
            ("localhost", "localhost", None),
            ("my_host-1", "my_host-1", None),
            ("127.0.0.1:9", "127.0.0.1", Some(9)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::1]:443", "[2001:db8::1]", Some(443)),
            ("h:65535", "h", Some(65535)),
        ] {
            let host = parse(written).expect(written);
            assert_eq!((&*host.name, host.port, host.written), (name, port, written));
        }
        assert!(matches!(parse("a.test:1"), Ok(Host { name: Cow::Borrowed(_), .. })));
    }

    #[test]
    fn what_is_no_host() {
        for written in [
            "",
            ".",
            ":80",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "user@host",
            "a@b:80",
            "a:b",
            "a:65536",
            "a:+1",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[]",
            "[1.2.3.4]",
            "[fe80::1%25en0]",
            "a,b",
            "a\"b",
            "a%41",
            "h\u{e9}",
            "*.a",
            "a\\b",
            "a;b",
        ] {
            assert_eq!(parse(written), Err(HostError::Invalid), "{written}");
        }
        assert_eq!(parse(&"a".repeat(254)), Err(HostError::Invalid));
    }

    #[test]
    fn target_or_header() {
        use HostError::*;
        for (version, uri, hosts, expected) in [
            (Version::HTTP_11, "/", &["a.test"][..], Ok(Some("a.test"))),
            (Version::HTTP_11, "/", &[], Err(Missing)),
            (Version::HTTP_11, "/", &["a", "a"], Err(Duplicate)),
            (Version::HTTP_11, "/", &["a b"], Err(Invalid)),
            (Version::HTTP_11, "/", &[""], Err(Invalid)),
            (Version::HTTP_11, "http://b.test/x", &["a.test"], Ok(Some("b.test"))),
            (Version::HTTP_11, "http://b.test/x", &[], Err(Missing)),
            (Version::HTTP_11, "http://u@b.test/x", &["b.test"], Err(Invalid)),
            (Version::HTTP_10, "/", &[], Ok(None)),
            (Version::HTTP_10, "/", &["a.test"], Ok(Some("a.test"))),
            (Version::HTTP_2, "https://b.test/", &[], Ok(Some("b.test"))),
            (Version::HTTP_2, "https://b.test/", &["B.test"], Ok(Some("b.test"))),
            (Version::HTTP_2, "https://b.test/", &["a.test"], Err(Mismatch)),
            (Version::HTTP_2, "https://b.test:1/", &["b.test:2"], Err(Mismatch)),
            (Version::HTTP_2, "/", &["a.test"], Ok(Some("a.test"))),
            (Version::HTTP_2, "/", &[], Err(Missing)),
        ] {
            let uri: Uri = uri.parse().expect("uri");
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_str(host).expect("value"));
            }
            let got = of_request(version, &uri, &headers);
            let got = got.map(|host| host.map(|host| host.name.into_owned()));
            assert_eq!(got, expected.map(|h| h.map(str::to_owned)), "{version:?} {uri} {hosts:?}");
        }
    }
}
