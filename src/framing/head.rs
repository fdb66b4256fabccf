//! The head of one request: its end, and how its body is framed.
//!
//! Goes from line to line and looks at the names that matter only; most lines cost a search for their end.

use super::{Wrong, find};

/// A complete head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes up to the empty line's end.
    pub(super) len: usize,
    pub(super) body: Body,
    /// It has an Upgrade.
    pub(super) asks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
/// How a body is framed.
pub enum Body {
    None,
    Length(u64),
    Chunked,
}

/// What the lines so far said.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    /// There is an Upgrade.
    pub(super) asks: bool,
}

/// The first head of `bytes`; `None`: it is not complete, and may become so within `most` bytes.
pub(super) fn read(bytes: &[u8], most: usize) -> Result<Option<Head>, Wrong> {
    // One empty line before a request is ignored (RFC 9112 §2.2).
    let mut at = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let Some(line) = line_at(bytes, &mut at)? else {
        return if bytes.len() > most { Err(Wrong::UriTooLong) } else { Ok(None) };
    };
    let old = match line {
        [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => match (major, minor) {
            (b'1', b'1') => false,
            (b'1', b'0') => true,
            (b'0'..=b'9', b'0'..=b'9') => return Err(Wrong::Version),
            _ => return Err(Wrong::RequestLine),
        },
        _ => return Err(Wrong::RequestLine),
    };
    if at > most {
        return Err(Wrong::UriTooLong);
    }
    if find(b'#', line).is_some() {
        return Err(Wrong::Fragment);
    }
    let mut lines = Lines::default();
    loop {
        let Some(line) = line_at(bytes, &mut at)? else {
            return if bytes.len() > most { Err(Wrong::HeadTooLarge) } else { Ok(None) };
        };
        match line.first() {
            None => break,
            // Names that are looked for begin with one of these.
            Some(b'c' | b'C' | b't' | b'T' | b'u' | b'U') => lines.take(line)?,
            Some(_) => {}
        }
    }
    if at > most {
        return Err(Wrong::HeadTooLarge);
    }
    Ok(Some(Head { len: at, body: lines.body(old)?, asks: lines.asks }))
}

/// The line that begins at `at`, without its end; `None`: its end is not there yet.
#[inline]
pub(super) fn line_at<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, Wrong> {
    let rest = &bytes[*at..];
    let Some(end) = find(b'\n', rest) else { return Ok(None) };
    *at += end + 1;
    match rest[..end].split_last() {
        Some((b'\r', line)) => Ok(Some(line)),
        _ => Err(Wrong::BareLf),
    }
}

impl Lines {
    /// How the body is framed; `old`: in HTTP/1.0.
    pub(super) fn body(&self, old: bool) -> Result<Body, Wrong> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Wrong::LengthAndCoding),
            (true, None) if old => Err(Wrong::OldCoding),
            (true, None) => Ok(Body::Chunked),
            (false, None | Some(0)) => Ok(Body::None),
            (false, Some(length)) => Ok(Body::Length(length)),
        }
    }

    pub(super) fn take(&mut self, line: &[u8]) -> Result<(), Wrong> {
        if let Some(value) = value(line, b"content-length", 7)? {
            let length = number(value).ok_or(Wrong::Length)?;
            if self.length.replace(length).is_some() {
                return Err(Wrong::Lengths);
            }
        } else if let Some(value) = value(line, b"transfer-encoding", 8)? {
            coding(value)?;
            if std::mem::replace(&mut self.chunked, true) {
                return Err(Wrong::Codings);
            }
        } else if line.len() > 7 && line[7] == b':' && line[..7].eq_ignore_ascii_case(b"upgrade") {
            self.asks = true;
        }
        Ok(())
    }
}

/// The value of a line with this name; `hyphen` is the index of its `-`.
#[inline(always)]
fn value<'a>(line: &'a [u8], name: &[u8], hyphen: usize) -> Result<Option<&'a [u8]>, Wrong> {
    if line.get(name.len()) != Some(&b':') || !matches!(line[hyphen], b'-' | b'_') {
        return Ok(None);
    }
    // Of letters, which differ from those of the other case by this bit alone. All at once: they are few and known.
    let same = |from: usize, to: usize| {
        let pairs = line[from..to].iter().zip(&name[from..to]);
        pairs.fold(0, |unlike, (byte, letter)| unlike | ((byte | 0x20) ^ letter)) == 0
    };
    if !same(0, hyphen) || !same(hyphen + 1, name.len()) {
        return Ok(None);
    }
    if line[hyphen] == b'_' {
        return Err(Wrong::Lookalike);
    }
    Ok(Some(blanks_off(&line[name.len() + 1..])))
}

/// Optional whitespace is blanks and tabs, nothing else (RFC 9110 §5.6.3).
#[inline]
pub fn blanks_off(mut value: &[u8]) -> &[u8] {
    // As nearly everybody writes a field: one blank before it.
    if let [b' ', inner @ ..] = value
        && let [b'!'..=b'~', .., b'!'..=b'~'] | [b'!'..=b'~'] = inner
    {
        return inner;
    }
    // Two loops: one for both ends costs three times as much.
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// `1*DIGIT`; no sign, no list.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Fine if it is `chunked` and nothing else.
fn coding(value: &[u8]) -> Result<(), Wrong> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.split(|byte| *byte == b',').map(blanks_off);
    let last = codings.next_back().unwrap_or_default();
    let known = |coding: &[u8]| {
        coding.is_empty()
            || coding.eq_ignore_ascii_case(b"chunked")
            || coding.eq_ignore_ascii_case(b"identity")
    };
    // A list of real codings in its right form is something that we could have known.
    match last.eq_ignore_ascii_case(b"chunked") && !codings.any(known) {
        true => Err(Wrong::Coding),
        false => Err(Wrong::NotChunked),
    }
}
