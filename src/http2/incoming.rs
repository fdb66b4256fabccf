//! The receiving half of a stream as a body.
//!
//! The other side may send as much more as is taken here, so what nobody reads is held back by its window.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

/// See the module.
pub struct Incoming {
    stream: RecvStream,
    /// What Content-Length says is still to come; the codec holds the other side to it.
    declared: Option<u64>,
    /// Only trailers may follow.
    done: bool,
}

impl Incoming {
    /// `declared`: what Content-Length says.
    pub fn new(stream: RecvStream, declared: Option<u64>) -> Self {
        Self { stream, declared, done: false }
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
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

    /// As much as Content-Length says has not come.
    pub fn is_short(&self) -> bool {
        self.declared.is_some_and(|left| left > 0)
    }

    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.declared.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
