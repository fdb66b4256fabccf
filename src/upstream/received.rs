//! The body of a request as it comes from a client, whatever protocol brings it.

mod expects;
mod streamed;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

pub use expects::Expects;
pub use streamed::Streamed;

/// A body that is being received.
pub enum Received {
    /// Over HTTP/1.
    Hyper(Incoming),
    /// Over HTTP/2.
    Streamed(Streamed),
    /// Over HTTP/3, or of our own making.
    Other(Pin<Box<dyn Body<Data = Bytes, Error = Broken>>>),
    /// There is none.
    Nothing,
}

/// It cannot be read to its end; whoever receives it knows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client went away or broke the framing of its body")]
pub struct Broken;

impl From<Incoming> for Received {
    fn from(body: Incoming) -> Self {
        Self::Hyper(body)
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Hyper(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|_| Broken))),
            Self::Streamed(body) => Pin::new(body).poll_frame(cx),
            Self::Other(body) => body.as_mut().poll_frame(cx),
            Self::Nothing => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
            Self::Streamed(body) => body.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
            Self::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
            Self::Streamed(body) => body.size_hint(),
            Self::Other(body) => body.size_hint(),
            Self::Nothing => SizeHint::with_exact(0),
        }
    }
}
