//! The body of a request, and the trailers after it, as the proxy reads them.
//!
//! Flow control is QUIC's: what nobody reads is not granted again, so a client is held back by the window
//! of its stream.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use quinn::VarInt;

use crate::upstream::received::{Broken, Expects};

use super::code;
use super::frame::{self, BadStream, Frames, Header};
use super::head::{self, BadHead};

/// A body, ready to be read.
pub struct RequestBody {
    frames: Frames,
    next: Next,
    /// Passed on once nothing comes after them: who has trailers reads no further.
    trailers: Option<HeaderMap>,
    /// What Content-Length says is still to come.
    declared: Option<u64>,
    /// The longest section of trailers.
    head_bytes: usize,
    notes: Rc<Notes>,
}

/// What the body tells whoever answers the request.
#[derive(Default)]
pub struct Notes {
    /// The client waits for a 100 before it sends anything.
    pub expects: Option<Expects>,
    /// What is wrong with the stream, or (true) with the whole connection.
    pub wrong: Cell<Option<(bool, VarInt)>>,
}

#[derive(Debug)]
enum Next {
    Header,
    Data,
    Skip,
    Trailers(BytesMut),
    /// After the trailers only frames without a meaning may come.
    Last,
    Ended,
    Broken,
}

impl RequestBody {
    pub fn new(frames: Frames, declared: Option<u64>, head_bytes: usize, notes: Rc<Notes>) -> Self {
        Self { frames, next: Next::Header, trailers: None, declared, head_bytes, notes }
    }

    /// The header of its first frame was read already. What is wrong with it is noted.
    pub fn begun(&mut self, header: Header) {
        let _ = self.begin(header);
    }

    /// There is none. If there should be, that is noted.
    pub fn ended(&mut self) {
        let _ = self.end();
    }

    fn fail(&mut self, whole: bool, why: VarInt) -> Broken {
        self.next = Next::Broken;
        if self.notes.wrong.get().is_none() {
            self.notes.wrong.set(Some((whole, why)));
        }
        Broken
    }

    fn failed(&mut self, bad: BadStream) -> Broken {
        match bad {
            BadStream::Gone => {
                self.next = Next::Broken;
                Broken
            }
            // RFC 9114 §7.1
            BadStream::CutShort => self.fail(true, code::FRAME_ERROR),
        }
    }

    fn begin(&mut self, header: Header) -> Result<(), Broken> {
        let last = matches!(self.next, Next::Last);
        self.next = match header.kind {
            frame::DATA if !last => {
                // RFC 9114 §4.1.2; nothing beyond it is passed on.
                if self.declared.is_some_and(|left| header.length > left) {
                    return Err(self.fail(false, code::MESSAGE_ERROR));
                }
                Next::Data
            }
            frame::HEADERS if !last && header.length > self.head_bytes as u64 => {
                return Err(self.fail(false, code::EXCESSIVE_LOAD));
            }
            frame::HEADERS if !last => Next::Trailers(BytesMut::new()),
            frame::DATA
            | frame::HEADERS
            | frame::CANCEL_PUSH
            | frame::SETTINGS
            | frame::PUSH_PROMISE
            | frame::GOAWAY
            | frame::MAX_PUSH_ID => return Err(self.fail(true, code::FRAME_UNEXPECTED)),
            kind if frame::is_reserved(kind) => {
                return Err(self.fail(true, code::FRAME_UNEXPECTED));
            }
            _ if last => Next::Last,
            _ => Next::Skip,
        };
        Ok(())
    }

    fn end(&mut self) -> Result<(), Broken> {
        if self.declared.is_some_and(|left| left > 0) {
            return Err(self.fail(false, code::MESSAGE_ERROR));
        }
        self.next = Next::Ended;
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        loop {
            match &mut self.next {
                Next::Ended => return Poll::Ready(Ok(None)),
                Next::Broken => return Poll::Ready(Err(Broken)),
                Next::Last => {
                    // The frame before, if there was one, and then the next.
                    if let Err(bad) = ready!(self.frames.poll_skip(cx)) {
                        return Poll::Ready(Err(self.failed(bad)));
                    }
                    match ready!(self.frames.poll_header(cx)) {
                        Ok(Some(header)) => self.begin(header)?,
                        Ok(None) => {
                            self.end()?;
                            return Poll::Ready(Ok(self.trailers.take().map(Frame::trailers)));
                        }
                        Err(bad) => return Poll::Ready(Err(self.failed(bad))),
                    }
                }
                Next::Header => match ready!(self.frames.poll_header(cx)) {
                    Ok(Some(header)) => self.begin(header)?,
                    Ok(None) => self.end()?,
                    Err(bad) => return Poll::Ready(Err(self.failed(bad))),
                },
                Next::Skip => match ready!(self.frames.poll_skip(cx)) {
                    Ok(()) => self.next = Next::Header,
                    Err(bad) => return Poll::Ready(Err(self.failed(bad))),
                },
                Next::Data => match ready!(self.frames.poll_payload(cx, usize::MAX)) {
                    Ok(Some(data)) => {
                        if let Some(left) = &mut self.declared {
                            *left -= data.len() as u64;
                        }
                        self.look_ahead(cx);
                        return Poll::Ready(Ok(Some(Frame::data(data))));
                    }
                    Ok(None) => self.next = Next::Header,
                    Err(bad) => return Poll::Ready(Err(self.failed(bad))),
                },
                Next::Trailers(section) => match ready!(self.frames.poll_payload(cx, usize::MAX)) {
                    Ok(Some(piece)) => section.extend_from_slice(&piece),
                    Ok(None) => {
                        let fields = head::trailers(section, self.head_bytes);
                        self.next = Next::Last;
                        match fields {
                            Ok(fields) => self.trailers = Some(fields),
                            Err(bad) => return Poll::Ready(Err(self.bad_trailers(bad))),
                        }
                    }
                    Err(bad) => return Poll::Ready(Err(self.failed(bad))),
                },
            }
        }
    }

    /// The end often comes with the last data: then whoever reads is told of it at once.
    fn look_ahead(&mut self, cx: &mut Context<'_>) {
        if self.frames.is_within() {
            return;
        }
        self.next = Next::Header;
        // What is wrong is noted, and told with the next read.
        let _ = match self.frames.poll_header(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(Some(header))) => self.begin(header),
            Poll::Ready(Ok(None)) => self.end(),
            Poll::Ready(Err(bad)) => Err(self.failed(bad)),
        };
    }

    fn bad_trailers(&mut self, bad: BadHead) -> Broken {
        match bad {
            BadHead::TooLarge | BadHead::TargetTooLong => self.fail(false, code::EXCESSIVE_LOAD),
            BadHead::Malformed(_) => self.fail(false, code::MESSAGE_ERROR),
            BadHead::Undecodable => self.fail(true, code::QPACK_DECOMPRESSION),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(expects) = &self.notes.expects {
            expects.reads();
        }
        self.poll_next(cx).map(Result::transpose)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.next, Next::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.next, self.declared) {
            (Next::Ended, _) => SizeHint::with_exact(0),
            (_, Some(left)) => SizeHint::with_exact(left),
            (_, None) => SizeHint::default(),
        }
    }
}
