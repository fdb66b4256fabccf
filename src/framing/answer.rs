//! The head of one answer: its end, and how its body is framed (RFC 9112 §6.3).

use smallvec::SmallVec;

use super::flaw::Flaw;
use super::head::{Body, Lines, line_at};
use super::{Asked, Wrong};

/// A complete head.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes up to the empty line's end.
    pub len: usize,
    pub status: u16,
    /// It is HTTP/1.0.
    pub old: bool,
    pub rest: Rest,
}

/// Where the lines of a head end, each behind its CR LF, but for the empty one.
pub type Ends = SmallVec<[usize; 24]>;

/// What comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    Body(Body),
    /// A body that ends with the connection.
    UntilClose,
    /// Another head: this one was informational.
    Head,
    /// Another protocol.
    Switched,
}

const VERSION: &[u8] = b"HTTP/1.";

/// The first head of `bytes`; `None`: it is not complete, and may become so within `most` bytes. `ends` is empty, and
/// gets its lines, so that nobody has to look for them again.
///
/// # Errors
/// What is wrong with it.
pub fn read(
    bytes: &[u8],
    most: usize,
    asked: Asked,
    ends: &mut Ends,
) -> Result<Option<Head>, Flaw> {
    // Whoever speaks something else is not waited for to end a line.
    let begun = bytes.len().min(VERSION.len());
    if bytes[..begun] != VERSION[..begun] {
        return Err(Flaw::StatusLine);
    }
    let mut at = 0;
    let Some(line) = line_at(bytes, &mut at)? else { return incomplete(bytes, most) };
    let (words, reason) = line[VERSION.len()..].split_at_checked(5).ok_or(Flaw::StatusLine)?;
    let (old, status) = match words {
        [minor @ (b'0' | b'1'), b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']
            if reason.first().is_none_or(|byte| *byte == b' ') =>
        {
            let digit = |byte: &u8| u16::from(byte - b'0');
            (*minor == b'0', digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        _ => return Err(Flaw::StatusLine),
    };
    let mut lines = Lines::default();
    loop {
        ends.push(at);
        let Some(line) = line_at(bytes, &mut at)? else { return incomplete(bytes, most) };
        match line.first() {
            None => break,
            // Names that are looked for begin with one of these.
            Some(b'c' | b'C' | b't' | b'T' | b'u' | b'U') => lines.take(line)?,
            Some(_) => {}
        }
    }
    if at > most {
        return Err(Wrong::HeadTooLarge.into());
    }
    Ok(Some(Head { len: at, status, old, rest: rest(status, old, &lines, asked)? }))
}

fn incomplete(bytes: &[u8], most: usize) -> Result<Option<Head>, Flaw> {
    if bytes.len() > most { Err(Wrong::HeadTooLarge.into()) } else { Ok(None) }
}

fn rest(status: u16, old: bool, lines: &Lines, asked: Asked) -> Result<Rest, Flaw> {
    let body = lines.body(old)?;
    if status == 101 {
        let fine = asked.upgrade && lines.asks && !old;
        return if fine { Ok(Rest::Switched) } else { Err(Flaw::Switch) };
    }
    if status < 200 || status == 204 {
        // Some say that there are 0 bytes, which is true.
        if lines.chunked || lines.length.is_some_and(|length| length > 0) {
            return Err(Flaw::NoBody);
        }
        return Ok(if status < 200 { Rest::Head } else { Rest::Body(Body::None) });
    }
    Ok(match body {
        // What is announced is what GET would have got.
        _ if asked.head || status == 304 => Rest::Body(Body::None),
        Body::None if lines.length.is_none() => Rest::UntilClose,
        body => Rest::Body(body),
    })
}
