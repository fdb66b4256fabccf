//! The head of an answer, strictly read (RFC 9112 §2–6): what two readers may understand differently is not HTTP.
//!
//! [`framing`](crate::framing) finds the end of the head and of the body, httparse judges names and values.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use httparse::{Header, ParserConfig};

use crate::framing::{self, Asked, Flaw, Rest};

/// Bytes of a head, and of all informational ones together.
const HEAD_BYTES: usize = 64 * 1024;
const FIELDS: usize = 100;
/// Informational answers (1xx) before the one that counts.
const INFORMATIONAL: u8 = 100;

/// See the module.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
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
}

impl Reader {
    pub(super) fn new(asked: Asked) -> Self {
        Self { asked, ..Self::default() }
    }

    /// Takes the head off what was read; `None`: it is not whole yet. Informational answers are
    /// put aside.
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
            let Some(head) =
                framing::read_answer(bytes, HEAD_BYTES, self.asked).map_err(Flaw::text)?
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
                let (response, _) = parse(&bytes)?;
                // 100 says something about our own sending only.
                if response.status() != StatusCode::CONTINUE {
                    self.interim.push(response);
                }
                continue;
            }
            let (response, old) = parse(&bytes)?;
            self.last |= matches!(head.rest, Rest::UntilClose | Rest::Switched)
                || ends(response.headers(), old);
            return Ok(Some(Head { response, rest: head.rest }));
        }
    }
}

/// A whole head; whether it is HTTP/1.0.
fn parse(bytes: &Bytes) -> Result<(Response<()>, bool), &'static str> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let result =
        ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
    match result {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err("its head ends twice"),
        Err(error) => return Err(reason(error)),
    }
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Flaw::StatusLine.text());
    };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(code).map_err(|_| Flaw::StatusLine.text())?;
    *response.version_mut() = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let headers = response.headers_mut();
    headers.reserve(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| "the name of a field is too long")?;
        // The framing of the transfer is not passed on.
        if name != header::TRANSFER_ENCODING {
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
                .map_err(|_| "the value of a field has control characters")?;
            headers.append(name, value);
        }
    }
    Ok((response, minor == 0))
}

/// Whether the backend closes after an answer with these fields; `old`: of HTTP/1.0.
fn ends(headers: &HeaderMap, old: bool) -> bool {
    if !headers.contains_key(header::CONNECTION) {
        return old;
    }
    let has = |wanted: &[u8]| {
        headers.get_all(header::CONNECTION).iter().any(|value| {
            let options = value.as_bytes().split(|byte| *byte == b',');
            options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(wanted))
        })
    };
    has(b"close") || (old && !has(b"keep-alive"))
}

fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "the name of a field is no token",
        httparse::Error::HeaderValue => "the value of a field has control characters",
        httparse::Error::NewLine => "a line of its head ends wrongly",
        httparse::Error::Status | httparse::Error::Version => Flaw::StatusLine.text(),
        httparse::Error::TooManyHeaders => "there are more than 100 fields",
        httparse::Error::Token => "its head is no HTTP",
    }
}
