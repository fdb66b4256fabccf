//! Types of values that several parts of the configuration have: addresses, networks, header
//! names and values, methods, statuses, regular expressions.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use crate::config::field::Field;
use crate::config::reader::Reader;
use crate::config::tree::{Node, Value};
use crate::config::types::{LONGEST_PATH, Secret, UNIX};
use crate::config::values::{self, Wrong, wrong};
use crate::units::format_size;

/// IP and port.
pub fn socket_address(value: &Value) -> Result<SocketAddr, Wrong> {
    let text = values::string(value)?;
    text.parse().or_else(|_| {
        wrong(
            value,
            format!("{text:?} is not an address; write IP:PORT as \"0.0.0.0:80\" or \"[::]:80\""),
        )
    })
}

/// A network, or a single address.
pub fn network(value: &Value) -> Result<IpNet, Wrong> {
    let text = values::string(value)?;
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.or_else(|_| {
        wrong(
            value,
            format!("{text:?} is not a network; write a CIDR as \"10.0.0.0/8\" or an address"),
        )
    })
}

/// `host:port`, the host an address or a name.
pub fn host_and_port(value: &Value) -> Result<(String, u16), Wrong> {
    let text = values::string(value)?;
    if let Some(path) = text.strip_prefix(UNIX) {
        return match path {
            _ if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') => wrong(
                value,
                format!(
                    "{text:?} is not the absolute path of a socket; write one as \"unix:/run/app.sock\""
                ),
            ),
            _ if path.len() > LONGEST_PATH => wrong(
                value,
                format!(
                    "the path has {} bytes; a unix socket's has {LONGEST_PATH} at most",
                    path.len()
                ),
            ),
            _ => Ok((text, 0)),
        };
    }
    let split = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let ip = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match ip {
            Some(ip) => ip.parse::<std::net::Ipv6Addr>().ok().map(|ip| (ip.to_string(), port)),
            None => is_host_name(host).then(|| (host.to_ascii_lowercase(), port)),
        }
    });
    match split {
        Some(split) => Ok(split),
        None => wrong(
            value,
            format!(
                "{text:?} is not an address; write host:port as \"10.0.0.1:3000\" or \"app:3000\", or \"unix:/run/app.sock\""
            ),
        ),
    }
}

/// Letters, digits, `-`, `_` and dots, no empty label.
pub fn is_host_name(text: &str) -> bool {
    let letters = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(letters)
}

pub fn method(value: &Value) -> Result<Method, Wrong> {
    let text = values::string(value)?;
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if text == upper => Ok(method),
        Ok(_) => {
            wrong(value, format!("methods are upper case and {text:?} is not; write {upper:?}"))
        }
        Err(_) => wrong(value, format!("{text:?} is not a method; write one such as \"GET\"")),
    }
}

pub fn header_name(text: &str, value: &Value) -> Result<HeaderName, Wrong> {
    HeaderName::from_bytes(text.as_bytes()).or_else(|_| {
        wrong(
            value,
            format!("{text:?} is not a header name; write letters, digits and \"-\" as \"x-beta\""),
        )
    })
}

/// A token (RFC 6265 §4.1.1).
pub fn cookie_name(text: &str, value: &Value) -> Result<Box<str>, Wrong> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(token) {
        return Ok(text.into());
    }
    wrong(value, format!("{text:?} is not the name of a cookie; write one such as \"tg\""))
}

/// The name of a zone; an empty one is none. As it may come over the admin API, too.
pub fn zone(r: &mut Reader<'_>) -> Option<Arc<str>> {
    let plain = |text: String| match text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
    {
        true => Ok(Some(text).filter(|text| !text.is_empty()).map(Arc::from)),
        false => Err(format!(
            "{text:?} is not a zone; write up to 128 letters, digits and \"-\" as \"eu-1a\""
        )),
    };
    r.string("zone").and(plain).or("")
}

/// What a secret has at least, in bytes.
const SECRET_MIN: usize = 16;

/// A secret, as written or as `file:PATH`; an empty one is none.
pub fn secret(r: &mut Reader<'_>, key: &'static str) -> Option<Secret> {
    Field { shown: absolute_secret, ..r.field(key, read_secret) }.or("")
}

fn read_secret(value: &Value) -> Result<Option<Secret>, Wrong> {
    let text = values::string(value)?;
    let (bytes, file) = match text.strip_prefix("file:") {
        None if text.is_empty() => return Ok(None),
        None => (text.into_bytes(), None),
        Some(path) => {
            let path = value.place.resolve(path);
            let read = std::fs::read(&path).or_else(|error| {
                let message =
                    format!("{} cannot be read ({error}); name a file that can", path.display());
                wrong(value, message)
            })?;
            (read.trim_ascii().to_vec(), Some(path))
        }
    };
    if bytes.len() < SECRET_MIN {
        let message = format!(
            "{} bytes are too few; write {SECRET_MIN} or more that nobody can guess",
            bytes.len()
        );
        return wrong(value, message);
    }
    Ok(Some(Secret { bytes, file }))
}

/// With the file's path as it is from anywhere.
pub fn absolute_secret(value: &Value) -> Value {
    let path = match &value.node {
        Node::String(text) => text.strip_prefix("file:"),
        _ => None,
    };
    let path = path.and_then(|path| std::path::absolute(value.place.resolve(path)).ok());
    let node = path.map(|path| Node::from(format!("file:{}", path.display()).as_str()));
    Value { node: node.unwrap_or_else(|| value.node.clone()), ..value.clone() }
}

pub fn header_value(value: &Value) -> Result<HeaderValue, Wrong> {
    let text = values::string(value)?;
    HeaderValue::from_str(&text).or_else(|_| {
        wrong(
            value,
            format!("{text:?} is not a header value; write printable characters on one line"),
        )
    })
}

/// A table of header names and values.
pub fn headers(value: &Value) -> Result<Vec<(HeaderName, HeaderValue)>, Wrong> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (name, value) in values::string_map(value)? {
        match header_name(&name, &value).and_then(|name| Ok((name, header_value(&value)?))) {
            Ok(one) => good.push(one),
            Err(mut some) => bad.append(&mut some),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

/// A regular expression; the message keeps the last line of the engine's explanation.
pub fn regex(text: &str) -> Result<regex::Regex, String> {
    regex::Regex::new(text).map_err(|error| {
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
        format!("{text:?} is not a regular expression ({reason}); write one as \"^/u/[0-9]+$\"")
    })
}

/// `200-399` or `200,204,300-303`: inclusive ranges of statuses.
pub fn statuses(value: &Value) -> Result<Vec<(u16, u16)>, Wrong> {
    let text = values::string(value)?;
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|s| (100..=599).contains(s));
    let range = |part: &str| match part.split_once('-') {
        Some((low, high)) => Some((status(low)?, status(high)?)).filter(|(low, high)| low <= high),
        None => status(part).map(|one| (one, one)),
    };
    match text.split(',').map(range).collect() {
        Some(ranges) => Ok(ranges),
        None => wrong(
            value,
            format!("{text:?} is not a range of statuses; write \"200-399\" or \"200,204\""),
        ),
    }
}

/// A path of a request: starts with `/`, no query.
pub fn request_path(text: String) -> Result<String, String> {
    let plain = text.bytes().all(|b| b > b' ' && b != 0x7f && b != b'?' && b != b'#');
    if text.starts_with('/') && plain {
        return Ok(text);
    }
    Err(format!("{text:?} is not a path; write one that starts with \"/\" and has no query"))
}

/// A size within bounds.
pub fn bytes(
    r: &mut Reader<'_>,
    key: &'static str,
    range: RangeInclusive<u64>,
    default: &'static str,
) -> usize {
    let within = move |size: u64| {
        if range.contains(&size) {
            return usize::try_from(size).map_err(|error| error.to_string());
        }
        let (low, high) = (format_size(*range.start()), format_size(*range.end()));
        Err(format!("{} is out of range; write one from {low:?} to {high:?}", format_size(size)))
    };
    r.size(key).and(within).or(default)
}

/// The names that would have been right.
pub fn there_are<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    if names.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}

/// A file that may be left out.
pub(super) fn file(
    r: &mut Reader<'_>,
    key: &'static str,
    check: fn(PathBuf) -> Result<PathBuf, String>,
) -> Option<PathBuf> {
    let given = match r.table().get(key).map(|value| &value.node) {
        None => false,
        Some(Node::String(path)) => !path.is_empty(),
        Some(_) => true,
    };
    if given {
        return Some(r.path(key).and(check).required());
    }
    let _ = r.string(key).or("");
    None
}
