//! The head of an answer, strictly read (RFC 9112 §2–6): what two readers may understand differently is not HTTP.
//!
//! [`framing`](crate::framing) finds the lines of the head and the end of the body, the types of the http crate judge
//! names and values.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};

use crate::framing::{self, AnswerHead, Asked, Ends, Flaw, Rest, blanks_off};

use super::names;

/// Bytes of a head, and of all informational ones together.
const HEAD_BYTES: usize = 64 * 1024;
const FIELDS: usize = 100;
/// Room for so many fields at least: HTTP/1 to clients puts their next request into the same map, and we add six to that.
const ROOM: usize = 12;
/// A map with more room is not used again: it would be kept as long as a client's connection is busy.
const MOST_ROOM: usize = 48;
/// Length of `HTTP/1.1 200`.
const CODE_END: usize = 12;
/// Informational answers (1xx) before the one that counts.
const INFORMATIONAL: u8 = 100;

/// See the module.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) rest: Rest,
}

/// Reads the head of one answer.
#[derive(Debug, Default)]
pub(super) struct Reader {
    asked: Asked,
    /// So many bytes were looked at and have no end of a line behind them.
    looked: usize,
    /// Informational heads so far, and their bytes.
    informational: (u8, usize),
    /// Those that a client may get, until somebody takes them.
    pub(super) interim: Vec<Response<()>>,
    /// The connection ends with this answer.
    pub(super) last: bool,
    /// Its fields, once its head was read. Before, an empty map: that of the request.
    pub(super) fields: HeaderMap,
}

impl Reader {
    /// The next answer is to a request that asks for this. Nothing is left of the one before, but the place of its fields.
    pub(super) fn begin(&mut self, asked: Asked) {
        (self.asked, self.looked, self.informational, self.last) = (asked, 0, (0, 0), false);
        if !self.interim.is_empty() {
            self.interim = Vec::new();
        }
        if !self.fields.is_empty() {
            self.fields = HeaderMap::new();
        }
    }

    /// The request was sent; the answer may have the place of its fields.
    pub(super) fn reuse(&mut self, fields: &mut HeaderMap) {
        if fields.capacity() <= MOST_ROOM {
            fields.clear();
            std::mem::swap(&mut self.fields, fields);
        }
    }

    /// Takes the head off what was read; `None`: it is not whole yet. Its fields are in `fields`
    /// then. Informational answers are put aside.
    ///
    /// # Errors
    /// What is wrong with it, as a part of a sentence.
    pub(super) fn read(&mut self, bytes: &mut BytesMut) -> Result<Option<Head>, &'static str> {
        loop {
            let new = &bytes[self.looked.min(bytes.len())..];
            // However slowly it comes, each line is looked at as often as there are lines, not bytes.
            let is_news = self.looked < 8 || memchr::memchr(b'\n', new).is_some();
            if bytes.is_empty() || (!is_news && bytes.len() <= HEAD_BYTES) {
                self.looked = bytes.len();
                return Ok(None);
            }
            let mut ends = Ends::new();
            let Some(head) = framing::read_answer(bytes, HEAD_BYTES, self.asked, &mut ends)
                .map_err(Flaw::text)?
            else {
                self.looked = bytes.len();
                return Ok(None);
            };
            self.looked = 0;
            let bytes = bytes.split_to(head.len).freeze();
            if head.rest == Rest::Head {
                let (count, size) = &mut self.informational;
                *count += 1;
                *size += head.len;
                if *count > INFORMATIONAL || *size > HEAD_BYTES {
                    return Err(Flaw::Informational.text());
                }
                let mut response = Response::new(());
                let (status, _) = parse(&bytes, &head, &ends, response.headers_mut())?;
                // 100 says something about our own sending only.
                if status != StatusCode::CONTINUE {
                    *response.status_mut() = status;
                    *response.version_mut() = version(&head);
                    self.interim.push(response);
                }
                continue;
            }
            let (status, last) = parse(&bytes, &head, &ends, &mut self.fields)?;
            self.last |= last || matches!(head.rest, Rest::UntilClose | Rest::Switched);
            return Ok(Some(Head { status, version: version(&head), rest: head.rest }));
        }
    }
}

fn version(head: &AnswerHead) -> Version {
    if head.old { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Puts the fields of a whole head, whose lines end there, into a map; its status, and whether the backend closes
/// after its answer.
fn parse(
    bytes: &Bytes,
    head: &AnswerHead,
    ends: &[usize],
    fields: &mut HeaderMap,
) -> Result<(StatusCode, bool), &'static str> {
    const NO_TOKEN: &str = "the name of a field is no token";
    let status = StatusCode::from_u16(head.status).map_err(|_| Flaw::StatusLine.text())?;
    let reason = &bytes[CODE_END..ends[0] - 2];
    if !reason.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
        return Err(Flaw::StatusLine.text());
    }
    if ends.len() > FIELDS + 1 {
        return Err("there are more than 100 fields");
    }
    fields.reserve(ends.len().max(ROOM));
    let mut options = Options::default();
    for line in ends.windows(2) {
        let line = &bytes[line[0]..line[1] - 2];
        let colon = framing::find(b':', line).ok_or(NO_TOKEN)?;
        let name = names::read(&line[..colon]).ok_or(NO_TOKEN)?;
        let value = blanks_off(&line[colon + 1..]);
        // The framing of the transfer is not passed on, nor what is said of this connection alone.
        if name == header::TRANSFER_ENCODING || (name == header::CONNECTION && options.take(value))
        {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value))
            .map_err(|_| "the value of a field has control characters")?;
        fields.append(name, value);
    }
    Ok((status, options.close || (head.old && !options.keep)))
}

/// What a backend says of its connection.
#[derive(Debug, Default)]
struct Options {
    close: bool,
    keep: bool,
}

impl Options {
    /// Takes up a value of Connection. True: it says nothing else.
    fn take(&mut self, value: &[u8]) -> bool {
        if value == b"keep-alive" {
            self.keep = true;
            return true;
        }
        let mut plain = true;
        for option in value.split(|byte| *byte == b',').map(blanks_off) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else {
                plain = false;
            }
        }
        plain
    }
}
