//! The body of a request that came over HTTP/2: the receiving half of its stream.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame, SizeHint};

use crate::http2::Incoming;

use super::{Broken, Expects};

/// See the module.
pub struct Streamed {
    body: Incoming,
    /// Until it is first read.
    expects: Option<Rc<Expects>>,
}

impl Streamed {
    /// `declared`: what Content-Length says.
    pub fn new(stream: RecvStream, declared: Option<u64>, expects: Option<Rc<Expects>>) -> Self {
        Self { body: Incoming::new(stream, declared), expects }
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
        Poll::Ready(match ready!(self.body.poll_frame(cx)) {
            // It was answered early, and reads no further (RFC 9113 §8.1).
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => None,
            Some(Err(_)) => Some(Err(Broken)),
            Some(Ok(frame)) => Some(Ok(frame)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
