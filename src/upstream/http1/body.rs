//! The body of an answer, as it comes (RFC 9112 §6–7). Its end is known as soon as the last byte is there; what is cut short
//! or badly framed is an error, never an end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use crate::framing::{self, Chunks, Part, Rest};
use crate::upstream::conn::Lost;

use super::Shared;
use super::line::Line;

/// Fields after a body.
const TRAILERS: usize = 32;

/// See the module.
pub struct Body {
    /// Gone with the last byte: then the connection may be somebody else's.
    shared: Option<Rc<Shared>>,
    left: Left,
}

enum Left {
    Length(u64),
    Chunked(Box<Chunked>),
    ToEnd,
}

#[derive(Default)]
struct Chunked {
    chunks: Chunks,
    /// What came of the trailers.
    trailers: Vec<u8>,
}

impl Body {
    pub(super) fn new(shared: &Rc<Shared>, line: &mut Line, rest: Rest) -> Self {
        let left = match rest {
            Rest::Body(framing::Body::Length(length)) => Left::Length(length),
            Rest::Body(framing::Body::Chunked) => Left::Chunked(Box::default()),
            Rest::UntilClose => Left::ToEnd,
            Rest::Body(framing::Body::None) | Rest::Head | Rest::Switched => Left::Length(0),
        };
        let mut body = Self { shared: Some(shared.clone()), left };
        if matches!(body.left, Left::Length(0)) {
            body.end(line);
        }
        body
    }

    /// Nothing more belongs to it.
    fn end(&mut self, line: &mut Line) {
        line.answered_whole(!line.is_last());
        self.shared = None;
    }

    fn poll_data(
        &mut self,
        line: &mut Line,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        loop {
            if !line.input.bytes.is_empty()
                && let Some(result) = self.next(line)
            {
                return Poll::Ready(Some(result));
            }
            if self.is_over() {
                return Poll::Ready(None);
            }
            match ready!(line.poll_fill(cx)) {
                Ok(0) if matches!(self.left, Left::ToEnd) => {
                    self.end(line);
                    return Poll::Ready(None);
                }
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Lost::Broken))),
                Ok(_) => {}
            }
        }
    }

    /// What there is in the input.
    fn next(&mut self, line: &mut Line) -> Option<Result<Frame<Bytes>, Lost>> {
        match &mut self.left {
            Left::ToEnd => Some(Ok(Frame::data(line.input.take(u64::MAX)))),
            Left::Length(left) => {
                let data = line.input.take(*left);
                *left -= data.len() as u64;
                if *left == 0 {
                    self.end(line);
                }
                Some(Ok(Frame::data(data)))
            }
            Left::Chunked(chunked) => match chunked.next(line) {
                Ok(Next::Nothing) => None,
                Ok(Next::Data(data, ended)) => {
                    if ended {
                        self.end(line);
                    }
                    Some(Ok(Frame::data(data)))
                }
                Ok(Next::Trailers(trailers)) => {
                    self.end(line);
                    trailers.map(|trailers| Ok(Frame::trailers(trailers)))
                }
                Err(why) => Some(Err(Lost::NotHttp(why))),
            },
        }
    }

    fn is_over(&self) -> bool {
        self.shared.is_none()
    }
}

/// What a look at the input found.
enum Next {
    Nothing,
    /// And whether the body ends with it.
    Data(Bytes, bool),
    /// The end.
    Trailers(Option<HeaderMap>),
}

impl Chunked {
    fn next(&mut self, line: &mut Line) -> Result<Next, &'static str> {
        const WRONG: &str = "a chunk of its body is not framed properly";
        let input = &mut line.input;
        while !input.bytes.is_empty() {
            match self.chunks.next(&input.bytes).map_err(|_| WRONG)? {
                Part::Data(length) => {
                    let data = input.take(length as u64);
                    let ended = self.ends_plainly(&input.bytes);
                    if let Some(rest) = ended {
                        drop(input.take(rest as u64));
                    }
                    return Ok(Next::Data(data, ended.is_some()));
                }
                Part::Framing(length) => drop(input.take(length as u64)),
                Part::Trailers(length, ended) => {
                    self.trailers.extend_from_slice(&input.bytes[..length]);
                    drop(input.take(length as u64));
                    if ended {
                        return Ok(Next::Trailers(parse(&self.trailers)?));
                    }
                }
            }
        }
        Ok(Next::Nothing)
    }

    /// Whether all that follows a chunk is there, and is the end without trailers: its length.
    fn ends_plainly(&self, bytes: &[u8]) -> Option<usize> {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        (self.chunks.is_after_data() && bytes.starts_with(END)).then_some(END.len())
    }
}

/// Trailers with the empty line after them.
fn parse(bytes: &[u8]) -> Result<Option<HeaderMap>, &'static str> {
    const WRONG: &str = "its trailers are wrong";
    if bytes == b"\r\n" {
        return Ok(None);
    }
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS];
    let (_, fields) = match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        _ => return Err(WRONG),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| WRONG)?;
        trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| WRONG)?);
    }
    Ok(Some(trailers))
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        let Some(shared) = self.shared.clone() else { return Poll::Ready(None) };
        self.poll_data(&mut shared.line.borrow_mut(), cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Left::Length(left) => SizeHint::with_exact(left),
            _ if self.is_over() => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}
