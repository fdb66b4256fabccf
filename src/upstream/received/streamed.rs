//! The body of a request that came over HTTP/2: the receiving side of its stream.
//!
//! A client may send as much more as is taken here, so one whose request nobody reads is held back by its window.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame, SizeHint};

use super::{Broken, Expects};

/// See the module.
pub struct Streamed {
    stream: RecvStream,
    /// What Content-Length says is still to come; the codec holds the client to it.
    declared: Option<u64>,
    /// Only trailers may follow.
    done: bool,
    /// Until it is first read.
    expects: Option<Rc<Expects>>,
}

impl Streamed {
    /// `declared`: what Content-Length says.
    pub fn new(stream: RecvStream, declared: Option<u64>, expects: Option<Rc<Expects>>) -> Self {
        Self { stream, declared, done: false, expects }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.done {
            if let Some(data) = ready!(self.stream.poll_data(cx)).transpose()? {
                // It fails only where more is released than was received.
                let _ = self.stream.flow_control().release_capacity(data.len());
                if let Some(left) = &mut self.declared {
                    *left = left.saturating_sub(data.len() as u64);
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.done = true;
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields))))
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(expects) = self.expects.take() {
            expects.reads();
        }
        Poll::Ready(match ready!(self.poll_next(cx)) {
            // It was answered early, and reads no further (RFC 9113 §8.1).
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => None,
            Some(Err(_)) => Some(Err(Broken)),
            Some(Ok(frame)) => Some(Ok(frame)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.declared.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
