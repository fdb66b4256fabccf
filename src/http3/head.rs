//! From a section of fields to a request, or to why there is none (RFC 9114 §4).
//!
//! Nothing is put right here: what a request says twice, late or in capitals is refused, since somebody
//! behind us might read it another way.

use http::header::{self, HeaderName};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use super::qpack::{self, BadSection};

/// The longest target that can be kept at all.
const LONGEST_TARGET: usize = u16::MAX as usize - 1;

/// Why a section is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHead {
    /// 431
    TooLarge,
    /// 414
    TargetTooLong,
    /// A stream error (§4.1.2).
    Malformed(&'static str),
    /// It cannot be decoded: an error of the whole connection (RFC 9204 §2.2).
    Undecodable,
}

/// A request's head, and how long it says its body is.
#[derive(Debug)]
pub struct Head {
    pub request: Request<()>,
    pub length: Option<u64>,
}

#[derive(Default)]
struct Pseudo {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
}

/// Reads the head of a request; `most` bytes as RFC 9114 §4.2.2 counts them.
pub fn request(section: &[u8], most: usize) -> Result<Head, BadHead> {
    let mut pseudo = Pseudo::default();
    let mut headers = HeaderMap::new();
    let mut target_too_long = false;
    qpack::section(section, most, |name, value| match name.first() {
        Some(b':') if !headers.is_empty() => {
            Err(BadSection::Field("a pseudo-header field after others"))
        }
        Some(b':') if name == b":path" && value.len() > LONGEST_TARGET => {
            target_too_long = true;
            Err(BadSection::TooLarge)
        }
        Some(b':') => pseudo.take(name, value).map_err(BadSection::Field),
        _ => add(&mut headers, name, value),
    })
    .map_err(|error| if target_too_long { BadHead::TargetTooLong } else { error.into() })?;
    let length = length(&headers).map_err(BadHead::Malformed)?;
    let (method, uri) = pseudo.target(&headers).map_err(BadHead::Malformed)?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_3;
    *request.headers_mut() = headers;
    Ok(Head { request, length })
}

/// Reads the fields after a body.
pub fn trailers(section: &[u8], most: usize) -> Result<HeaderMap, BadHead> {
    let mut headers = HeaderMap::new();
    qpack::section(section, most, |name, value| add(&mut headers, name, value))?;
    Ok(headers)
}

impl From<BadSection> for BadHead {
    fn from(bad: BadSection) -> Self {
        match bad {
            BadSection::TooLarge => Self::TooLarge,
            BadSection::Invalid => Self::Undecodable,
            BadSection::Field(why) => Self::Malformed(why),
        }
    }
}

fn add(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<(), BadSection> {
    // In lower case only, and no `:` in it.
    let name = HeaderName::from_lowercase(name)
        .map_err(|_| BadSection::Field("a field name that is not valid"))?;
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if blank(value.first()) || blank(value.last()) {
        return Err(BadSection::Field("a field value with blanks around it"));
    }
    let value = HeaderValue::from_bytes(value)
        .map_err(|_| BadSection::Field("a field value that is not valid"))?;
    // §4.2
    let of_connection = name == header::CONNECTION
        || name == header::TRANSFER_ENCODING
        || name == header::UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection");
    if of_connection || name == header::TE && value != "trailers" {
        return Err(BadSection::Field("a field that belongs to one connection"));
    }
    headers.try_append(name, value).map_err(|_| BadSection::TooLarge)?;
    Ok(())
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err("Content-Length is not one number"),
    }
}

impl Pseudo {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match name {
            b":method" => {
                let method = Method::from_bytes(value).map_err(|_| ":method is not valid")?;
                once(&mut self.method, method)
            }
            b":scheme" => {
                // The parser takes nothing for a scheme.
                let scheme = Some(value).filter(|value| !value.is_empty());
                let scheme = scheme.and_then(|value| Scheme::try_from(value).ok());
                let scheme = scheme.ok_or(":scheme is not valid")?;
                once(&mut self.scheme, scheme)
            }
            b":authority" => {
                let authority =
                    Authority::try_from(value).map_err(|_| ":authority is not valid")?;
                once(&mut self.authority, authority)
            }
            b":path" => {
                // The parser would drop a fragment silently.
                if value.is_empty() || value.contains(&b'#') {
                    return Err(":path is not valid");
                }
                let path = PathAndQuery::try_from(value).map_err(|_| ":path is not valid")?;
                once(&mut self.path, path)
            }
            _ => Err("a pseudo-header field that no request has"),
        }
    }

    /// Whether there is all that a request needs and nothing that it must not have (§4.3.1).
    fn target(self, headers: &HeaderMap) -> Result<(Method, Uri), &'static str> {
        let method = self.method.ok_or("there is no :method")?;
        if method == Method::CONNECT {
            return match (self.authority, self.scheme, self.path) {
                (Some(authority), None, None) => Ok((method, authority.into())),
                _ => Err("CONNECT has an :authority and nothing else"),
            };
        }
        let scheme = self.scheme.ok_or("there is no :scheme")?;
        let path = self.path.ok_or("there is no :path")?;
        let whole = path == "*" && method == Method::OPTIONS;
        if !path.as_str().starts_with('/') && !whole {
            return Err(":path does not begin with /");
        }
        let Some(authority) = self.authority else {
            if !headers.contains_key(header::HOST) {
                return Err("there is neither :authority nor Host");
            }
            return Ok((method, path.into()));
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = Some(authority);
        parts.path_and_query = Some(path);
        let uri = Uri::from_parts(parts).map_err(|_| "the target is not valid")?;
        Ok((method, uri))
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("a pseudo-header field that comes twice"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// A section of literal fields.
    fn section(fields: &[(&str, &str)]) -> BytesMut {
        let mut out = BytesMut::from(&[0, 0][..]);
        for (name, value) in fields {
            qpack::literal(name.as_bytes(), value.as_bytes(), &mut out);
        }
        out
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/x?y")];

    fn with(more: &[(&str, &str)]) -> Result<Head, BadHead> {
        request(&section(&[&GET, more].concat()), 65_536)
    }

    fn without(name: &str, more: &[(&str, &str)]) -> Result<Head, BadHead> {
        let left: Vec<_> = GET.into_iter().filter(|field| field.0 != name).collect();
        request(&section(&[&left[..], more].concat()), 65_536)
    }

    #[test]
    fn a_proper_request() {
        let head = with(&[("x-a", "b"), ("content-length", "7"), ("te", "trailers")]);
        let Head { request, length } = head.expect("it is proper");
        assert_eq!(request.uri(), "https://a.test/x?y");
        assert_eq!((request.version(), length), (Version::HTTP_3, Some(7)));
        assert_eq!(request.headers()["x-a"], "b");
        let by_host = without(":authority", &[("host", "b.test")]).expect("Host will do").request;
        assert_eq!((by_host.uri().path(), by_host.uri().authority()), ("/x", None));
        let options = [(":method", "OPTIONS"), (":scheme", "https"), (":path", "*")];
        let options = section(&[&options[..], &[("host", "a")]].concat());
        assert!(request_of(&options).is_ok_and(|head| head.request.uri().path() == "*"));
        let connect = section(&[(":method", "CONNECT"), (":authority", "a.test:1")]);
        assert!(request_of(&connect).is_ok_and(|head| head.request.uri() == "a.test:1"));
    }

    fn request_of(section: &[u8]) -> Result<Head, BadHead> {
        request(section, 65_536)
    }

    #[test]
    fn what_is_malformed() {
        for more in [
            &[("x-a", "b"), (":path", "/z")][..],
            &[(":path", "/z")],
            &[(":method", "GET")],
            &[(":scheme", "https")],
            &[(":authority", "a.test")],
            &[(":status", "200")],
            &[(":protocol", "websocket")],
            &[(":", "")],
            &[("", "x")],
            &[("X-A", "b")],
            &[("x a", "b")],
            &[("x:a", "b")],
            &[("x-a", " b")],
            &[("x-a", "b\t")],
            &[("x-a", "b\r\nc: d")],
            &[("x-a", "b\nc")],
            &[("x-a", "\0")],
            &[("connection", "close")],
            &[("connection", "te")],
            &[("keep-alive", "1")],
            &[("proxy-connection", "close")],
            &[("transfer-encoding", "chunked")],
            &[("upgrade", "h2c")],
            &[("te", "gzip")],
            &[("te", "trailers, gzip")],
            &[("content-length", "-1")],
            &[("content-length", "+1")],
            &[("content-length", "")],
            &[("content-length", "1"), ("content-length", "1")],
            &[("content-length", "1, 1")],
            &[("content-length", "99999999999999999999")],
        ] {
            assert!(matches!(with(more), Err(BadHead::Malformed(_))), "{more:?}");
        }
        for (name, more) in [
            (":method", &[][..]),
            (":scheme", &[]),
            (":path", &[]),
            (":authority", &[]),
            (":authority", &[(":authority", "")]),
            (":authority", &[(":authority", "a b")]),
            (":path", &[(":path", "")]),
            (":path", &[(":path", "x")]),
            (":path", &[(":path", "*")]),
            (":path", &[(":path", "/ x")]),
            (":path", &[(":path", "/x#y")]),
            (":path", &[(":path", "/\r\n")]),
            (":path", &[(":path", "https://a.test/")]),
            (":scheme", &[(":scheme", "")]),
            (":scheme", &[(":scheme", "ht tp")]),
            (":method", &[(":method", "")]),
            (":method", &[(":method", "GE T")]),
            (":method", &[(":method", "CONNECT")]),
        ] {
            let head = without(name, more);
            assert!(matches!(head, Err(BadHead::Malformed(_))), "{name} {more:?}: {head:?}");
        }
    }

    #[test]
    fn what_is_too_large() {
        let long = "x".repeat(70_000);
        let huge = section(&[(":path", &format!("/{long}"))]);
        assert_eq!(request(&huge, 1 << 20).map(drop), Err(BadHead::TargetTooLong));
        assert_eq!(request(&huge, 65_536).map(drop), Err(BadHead::TooLarge));
        assert_eq!(with(&[("x-a", &long)]).map(drop), Err(BadHead::TooLarge));
        let many: Vec<_> = (0..30_000).map(|n| format!("x{n}")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), "")).collect();
        let many = section(&[&GET, &many[..]].concat());
        assert_eq!(request(&many, 1 << 30).map(drop), Err(BadHead::TooLarge));
    }

    #[test]
    fn trailers_are_fields_only() {
        assert!(trailers(&section(&[("x-a", "b")]), 999).is_ok_and(|fields| fields["x-a"] == "b"));
        for wrong in [(":path", "/"), ("connection", "close"), ("X-A", "b")] {
            let fields = trailers(&section(&[wrong]), 999);
            assert!(matches!(fields, Err(BadHead::Malformed(_))), "{wrong:?}");
        }
    }
}
