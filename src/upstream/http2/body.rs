//! The body of an answer, as it comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{Response, header};
use http_body::{Frame, SizeHint};

use crate::http2::Incoming;
use crate::upstream::conn::Lost;

/// See the module. `None`: there is none.
pub struct Body(Option<Incoming>);

impl Body {
    /// `head`: of the answer to a HEAD, whose length is not that of what comes.
    pub(super) fn of(response: Response<RecvStream>, head: bool) -> Response<Self> {
        let (parts, stream) = response.into_parts();
        let length = parts.headers.get(header::CONTENT_LENGTH).filter(|_| !head);
        // The codec lets no head through with two that differ, or with none that is a number.
        let declared = length.and_then(|value| value.to_str().ok()?.parse().ok());
        Response::from_parts(parts, Self(Some(Incoming::new(stream, declared))))
    }

    pub(super) fn none() -> Self {
        Self(None)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        let Some(stream) = &mut self.0 else { return Poll::Ready(None) };
        Poll::Ready(match ready!(stream.poll_frame(cx)) {
            // It was answered whole, and the rest of the request is not wanted (RFC 9113 §8.1).
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) && !stream.is_short() => {
                None
            }
            Some(Err(_)) => Some(Err(Lost::Broken)),
            Some(Ok(frame)) => Some(Ok(frame)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(stream) if !stream.is_end_stream() => stream.size_hint(),
            _ => SizeHint::with_exact(0),
        }
    }
}
