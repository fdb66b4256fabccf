//! Bodies of answers: a text, or filler of any size that is made while it is sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::Place;

/// The filler repeats the alphabet; a chunk is a whole number of alphabets, so byte `i` of a
/// body is always `b'a' + i % 26`.
const CHUNK: usize = 26 * 2520;
static FILLER: [u8; CHUNK] = filler();

/// Name of the trailer that an answer with `?trailers` ends with; its value is the number of bytes.
pub(super) const TRAILER: HeaderName = HeaderName::from_static("x-origin-bytes");

/// The body of one answer. It holds the request's slot until the last byte is handed over.
#[derive(Debug)]
pub(super) struct AnswerBody {
    text: Bytes,
    filler: u64,
    sent: u64,
    /// Cut the connection once this many bytes were sent.
    pub(super) cut_after: Option<u64>,
    flushed: bool,
    pub(super) trailers: bool,
    /// Hide the length, so that HTTP/1.1 sends chunks.
    pub(super) chunked: bool,
    place: Option<Place>,
}

/// The connection is cut on purpose.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub(super) struct Cut;

impl AnswerBody {
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self {
            text: text.into(),
            filler: 0,
            sent: 0,
            cut_after: None,
            flushed: false,
            trailers: false,
            chunked: false,
            place: None,
        }
    }

    pub(super) fn filler(bytes: u64) -> Self {
        Self { filler: bytes, ..Self::text(Bytes::new()) }
    }

    /// Gives the slot back with the end of the body.
    pub(super) fn hold(&mut self, place: Place) {
        self.place = Some(place);
    }

    fn next(&mut self) -> Option<Bytes> {
        if !self.text.is_empty() {
            return Some(std::mem::take(&mut self.text));
        }
        let n = self.filler.min(CHUNK as u64);
        self.filler -= n;
        (n > 0).then(|| Bytes::from_static(&FILLER[..n as usize]))
    }

    fn left(&self) -> u64 {
        self.text.len() as u64 + self.filler
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.cut_after.is_some_and(|at| self.sent >= at) {
            if std::mem::replace(&mut self.flushed, true) {
                return Poll::Ready(Some(Err(Cut)));
            }
            // What came before is only written out when there is nothing more for the moment.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(mut chunk) = self.next() {
            if let Some(at) = self.cut_after {
                chunk.truncate((at - self.sent).min(chunk.len() as u64) as usize);
            }
            self.sent += chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        self.place = None;
        if std::mem::take(&mut self.trailers) {
            let map = HeaderMap::from_iter([(TRAILER, HeaderValue::from(self.sent))]);
            return Poll::Ready(Some(Ok(Frame::trailers(map))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0 && !self.trailers && self.cut_after.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // With an exact length HTTP/1.1 has no chunks, and so no trailers.
        if self.chunked || self.trailers {
            SizeHint::default()
        } else {
            SizeHint::with_exact(self.left())
        }
    }
}

const fn filler() -> [u8; CHUNK] {
    let mut bytes = [0; CHUNK];
    let mut i = 0;
    while i < CHUNK {
        bytes[i] = b'a' + (i % 26) as u8;
        i += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn filler_has_its_size_and_pattern() {
        let body = AnswerBody::filler(CHUNK as u64 + 3);
        assert_eq!(body.size_hint().exact(), Some(CHUNK as u64 + 3));
        let bytes = body.collect().await.expect("nothing is cut").to_bytes();
        assert_eq!(bytes.len(), CHUNK + 3);
        assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == b'a' + (i % 26) as u8));
    }

    #[tokio::test]
    async fn a_cut_body_ends_with_an_error_after_its_bytes() {
        let mut body = AnswerBody::filler(100);
        body.cut_after = Some(10);
        let first = body.frame().await.expect("a frame").expect("not cut yet");
        assert_eq!(first.into_data().expect("data").len(), 10);
        assert!(body.frame().await.expect("a frame").is_err());
    }

    #[tokio::test]
    async fn trailers_come_last_and_count() {
        let mut body = AnswerBody::text("hello");
        body.trailers = true;
        assert!(!body.is_end_stream());
        let collected = body.collect().await.expect("nothing is cut");
        assert_eq!(collected.trailers().expect("trailers")[TRAILER], "5");
    }
}
