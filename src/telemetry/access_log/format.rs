//! The two line formats. Everything a peer sent is escaped: one request is one line, whatever is in it.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

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
    let (second, millis) = stamp.at(r.time, "%Y-%m-%dT%H:%M:%S");
    // Writing to a Vec cannot fail; the same below.
    let _ = write!(out, "{{\"time\":\"{second}.{millis:03}Z\"");
    text(out, "request_id", r.request_id.as_bytes());
    let _ = write!(out, ",\"client\":\"{}\"", r.client);
    text(out, "listener", r.listener.as_bytes());
    text(out, "route", r.route.as_bytes());
    text(out, "service", r.service.as_bytes());
    text(out, "backend", r.backend.as_bytes());
    text(out, "method", r.method.as_bytes());
    text(out, "host", r.host.as_bytes());
    text(out, "path", r.target.as_bytes());
    let _ = write!(out, ",\"protocol\":\"{:?}\",\"status\":{}", r.version, r.status);
    let _ = write!(out, ",\"bytes_in\":{},\"bytes_out\":{}", r.bytes_in, r.bytes_out);
    let _ = write!(out, ",\"duration_ms\":{}.{:03}", r.duration / 1000, r.duration % 1000);
    if let Some(ttfb) = r.ttfb {
        let _ = write!(out, ",\"ttfb_ms\":{}.{:03}", ttfb / 1000, ttfb % 1000);
    }
    let _ = write!(out, ",\"retries\":{}", r.retries);
    text(out, "error", r.error.unwrap_or_default().as_bytes());
    if let Some(Failed { phase, after }) = r.failed {
        let (ms, us) = (after / 1000, after % 1000);
        let _ = write!(out, ",\"phase\":\"{phase}\",\"after_ms\":{ms}.{us:03}");
    }
    text(out, "user_agent", r.user_agent.unwrap_or_default());
    text(out, "referer", r.referer.unwrap_or_default());
    out.extend_from_slice(b"}\n");
}

/// Apache's combined log format (mod_log_config: `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"`).
pub(super) fn combined(out: &mut Vec<u8>, stamp: &mut Stamp, r: &Record<'_>) {
    let (second, _) = stamp.at(r.time, "%d/%b/%Y:%H:%M:%S +0000");
    let _ = write!(out, "{} - - [{second}] \"", r.client);
    quoted(out, r.method.as_bytes());
    out.push(b' ');
    quoted(out, r.target.as_bytes());
    let _ = write!(out, " {:?}\" {} {} \"", r.version, r.status, r.bytes_out);
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
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..=0x1f | 0x7f => {
                    let _ = write!(out, "\\u{byte:04x}");
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Quotes, backslashes, controls and bytes above ASCII as `\xHH`.
fn quoted(out: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        match byte {
            b' '..=b'~' if byte != b'"' && byte != b'\\' => out.push(byte),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
}
