//! The two line formats. Everything a peer sent is escaped: one request is one line, whatever is in it.

use std::io::Write;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::Version;
use jiff::Timestamp;

use crate::clock::Micros;

use super::{Failed, Record};

/// The time of the current second as text; most lines share it with the one before.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    text: String,
}

impl Stamp {
    /// The text of a second, made again when it is another one than before.
    fn at(&mut self, time: SystemTime, format: &str) -> (&str, u32) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            let second = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
            let timestamp = Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
            self.text = timestamp.strftime(format).to_string();
        }
        (&self.text, since.subsec_millis())
    }
}

/// One JSON object. Fields that have no value are left out.
pub(super) fn json(out: &mut Vec<u8>, stamp: &mut Stamp, r: &Record<'_>) {
    let (second, thousandths) = stamp.at(r.time, "%Y-%m-%dT%H:%M:%S");
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(second.as_bytes());
    out.push(b'.');
    three(out, thousandths.into());
    out.extend_from_slice(b"Z\"");
    text(out, "request_id", r.request_id.as_bytes());
    out.extend_from_slice(b",\"client\":\"");
    address(out, r.client);
    out.push(b'"');
    text(out, "listener", r.listener.as_bytes());
    text(out, "route", r.route.as_bytes());
    text(out, "service", r.service.as_bytes());
    text(out, "backend", r.backend.as_bytes());
    text(out, "method", r.method.as_bytes());
    text(out, "host", r.host.as_bytes());
    text(out, "path", r.target.as_bytes());
    text(out, "protocol", version(r.version).as_bytes());
    for (name, value) in [
        (",\"status\":", r.status.into()),
        (",\"bytes_in\":", r.bytes_in),
        (",\"bytes_out\":", r.bytes_out),
    ] {
        out.extend_from_slice(name.as_bytes());
        number(out, value);
    }
    out.extend_from_slice(b",\"duration_ms\":");
    millis(out, r.duration);
    if let Some(ttfb) = r.ttfb {
        out.extend_from_slice(b",\"ttfb_ms\":");
        millis(out, ttfb);
    }
    out.extend_from_slice(b",\"retries\":");
    number(out, r.retries.into());
    text(out, "error", r.error.unwrap_or_default().as_bytes());
    if let Some(Failed { phase, after }) = r.failed {
        text(out, "phase", phase.as_bytes());
        out.extend_from_slice(b",\"after_ms\":");
        millis(out, after);
    }
    text(out, "user_agent", r.user_agent.unwrap_or_default());
    text(out, "referer", r.referer.unwrap_or_default());
    out.extend_from_slice(b"}\n");
}

/// Apache's combined log format (mod_log_config: `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"`).
pub(super) fn combined(out: &mut Vec<u8>, stamp: &mut Stamp, r: &Record<'_>) {
    let (second, _) = stamp.at(r.time, "%d/%b/%Y:%H:%M:%S +0000");
    address(out, r.client);
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(second.as_bytes());
    out.extend_from_slice(b"] \"");
    quoted(out, r.method.as_bytes());
    out.push(b' ');
    quoted(out, r.target.as_bytes());
    out.push(b' ');
    out.extend_from_slice(version(r.version).as_bytes());
    out.extend_from_slice(b"\" ");
    number(out, r.status.into());
    out.push(b' ');
    number(out, r.bytes_out);
    out.extend_from_slice(b" \"");
    quoted(out, r.referer.unwrap_or(b"-"));
    out.extend_from_slice(b"\" \"");
    quoted(out, r.user_agent.unwrap_or(b"-"));
    out.extend_from_slice(b"\"\n");
}

/// `,"name":"value"`, or nothing for an empty value. Bytes that are not UTF-8 become U+FFFD.
fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    for chunk in value.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some((byte, after)) = plain_off(out, rest, |byte| byte >= b' ' && byte != 0x7f) {
            if matches!(byte, b'"' | b'\\') {
                out.extend_from_slice(&[b'\\', byte]);
            } else {
                // Writing to a Vec cannot fail; the same below.
                let _ = write!(out, "\\u{byte:04x}");
            }
            rest = after;
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Quotes, backslashes, controls and bytes above ASCII as `\xHH`.
fn quoted(out: &mut Vec<u8>, mut value: &[u8]) {
    while let Some((byte, after)) = plain_off(out, value, |byte| matches!(byte, b' '..=b'~')) {
        let _ = write!(out, "\\x{byte:02x}");
        value = after;
    }
}

/// Writes the bytes as they are up to one that is not plain, or is a quote or a backslash: here it is, with what is
/// after it.
#[inline]
fn plain_off<'a>(
    out: &mut Vec<u8>,
    bytes: &'a [u8],
    plain: impl Fn(u8) -> bool,
) -> Option<(u8, &'a [u8])> {
    let odd = |byte: &u8| !plain(*byte) || matches!(byte, b'"' | b'\\');
    let end = bytes.iter().position(odd).unwrap_or(bytes.len());
    out.extend_from_slice(&bytes[..end]);
    bytes[end..].split_first().map(|(byte, after)| (*byte, after))
}

/// As `Display` writes it, which takes a thousand instructions for an IPv4 address.
fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            number(out, a.into());
            for byte in [b, c, d] {
                out.push(b'.');
                number(out, byte.into());
            }
        }
        IpAddr::V6(address) => {
            let _ = write!(out, "{address}");
        }
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    let mut text = [0; 20];
    let (mut at, mut left) = (text.len(), number);
    loop {
        at -= 1;
        text[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// Microseconds as milliseconds.
fn millis(out: &mut Vec<u8>, micros: Micros) {
    number(out, micros / 1000);
    out.push(b'.');
    three(out, micros % 1000);
}

/// The last three digits.
fn three(out: &mut Vec<u8>, number: u64) {
    let digit = |of: u64| b'0' + (number / of % 10) as u8;
    out.extend_from_slice(&[digit(100), digit(10), digit(1)]);
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
