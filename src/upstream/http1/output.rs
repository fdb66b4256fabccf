//! What is on its way to a backend: the head of a request, then its body, piece by piece.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, header};
use tokio::io::AsyncWrite;

use crate::upstream::outgoing::Outgoing;
use crate::upstream::socket::Socket;

/// Heads longer than this are not kept; such a request is not retried once sent.
const LONGEST_HEAD: usize = 64 * 1024;
/// An idle connection keeps a buffer of this size for its next head.
const USUAL_HEAD: usize = 2 * 1024;

/// How the body of a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes are left.
    Length(u64),
    Chunked,
}

/// Pieces that are sent in this order: head, front, data, end.
#[derive(Debug, Default)]
pub(super) struct Output {
    head: Vec<u8>,
    /// A chunk's size, or the last chunk with its trailers.
    front: Vec<u8>,
    data: Bytes,
    end: &'static [u8],
    /// Of the head.
    head_sent: usize,
    /// Of the rest.
    sent: usize,
    keep: bool,
}

impl Output {
    /// Starts with the head of a request. `framing`: it has a body.
    pub(super) fn begin(&mut self, request: &Outgoing, framing: Option<Framing>, keep: bool) {
        self.head.clear();
        (self.head_sent, self.keep) = (0, keep);
        self.clear();
        let head = &mut self.head;
        head.extend_from_slice(request.method().as_str().as_bytes());
        head.push(b' ');
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        head.extend_from_slice(target.as_bytes());
        head.extend_from_slice(b" HTTP/1.1\r\n");
        for (name, value) in request.headers() {
            // The framing is ours to say.
            if name == header::TRANSFER_ENCODING {
                continue;
            }
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(request.lines());
        head.extend_from_slice(b"\r\n");
        if framing == Some(Framing::Chunked) {
            self.chunked();
        }
    }

    /// The head, of which nothing is sent yet, says that a body follows in chunks.
    pub(super) fn chunked(&mut self) {
        self.head.truncate(self.head.len() - 2);
        self.head.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    }

    /// A piece of the body. `last`: the body ends with it.
    pub(super) fn data(&mut self, data: Bytes, framing: Framing, last: bool) {
        self.clear();
        if framing == Framing::Chunked {
            push_hex(&mut self.front, data.len());
            self.front.extend_from_slice(b"\r\n");
            self.end = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
        }
        self.data = data;
    }

    /// The end of a chunked body.
    pub(super) fn end(&mut self, trailers: Option<&HeaderMap>) {
        self.clear();
        self.front.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.into_iter().flatten() {
            if !may_trail(name) {
                continue;
            }
            self.front.extend_from_slice(name.as_str().as_bytes());
            self.front.extend_from_slice(b": ");
            self.front.extend_from_slice(value.as_bytes());
            self.front.extend_from_slice(b"\r\n");
        }
        self.front.extend_from_slice(b"\r\n");
    }

    fn clear(&mut self) {
        self.front.clear();
        self.data = Bytes::new();
        self.end = b"";
        self.sent = 0;
    }

    /// Whether any byte of the request was handed to the socket.
    pub(super) fn has_begun(&self) -> bool {
        self.head_sent > 0
    }

    /// Nothing but (part of) the head waits to be sent.
    pub(super) fn has_room(&self) -> bool {
        self.sent == self.front.len() + self.data.len() + self.end.len()
    }

    /// Nothing waits to be sent.
    pub(super) fn is_sent(&self) -> bool {
        self.head_sent == self.head.len() && self.has_room()
    }

    /// All that waits to be sent.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> Vec<u8> {
        let rest = [&self.front[..], &self.data, self.end].concat();
        [&self.head[self.head_sent..], &rest[self.sent..]].concat()
    }

    /// Writes what it can with one call; how much that was.
    pub(super) fn poll_write(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let head = &self.head[self.head_sent..];
        let wrote = if self.has_room() {
            ready!(Pin::new(socket).poll_write(cx, head))?
        } else {
            let mut skip = self.sent;
            let mut rest = |piece| after(piece, &mut skip);
            let pieces = [
                IoSlice::new(head),
                IoSlice::new(rest(&self.front)),
                IoSlice::new(rest(&self.data)),
                IoSlice::new(rest(self.end)),
            ];
            ready!(Pin::new(socket).poll_write_vectored(cx, &pieces))?
        };
        if wrote == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_head = wrote.min(head.len());
        self.head_sent += of_head;
        self.sent += wrote - of_head;
        Poll::Ready(Ok(wrote))
    }

    /// The whole head of the current request, if it was kept, and was sent or not begun.
    pub(super) fn take_head(&mut self) -> Option<Vec<u8>> {
        let whole = self.is_kept();
        self.keep = false;
        whole.then(|| {
            self.head_sent = 0;
            std::mem::take(&mut self.head)
        })
    }

    /// A copy of it; it is still kept.
    pub(super) fn copy_head(&self) -> Option<Vec<u8>> {
        self.is_kept().then(|| self.head.clone())
    }

    fn is_kept(&self) -> bool {
        let whole = self.head_sent == self.head.len() || self.head_sent == 0;
        self.keep && whole && self.head.len() <= LONGEST_HEAD
    }

    /// Nothing of the request is needed any more.
    pub(super) fn rest(&mut self) {
        self.keep = false;
        self.data = Bytes::new();
        for buffer in [&mut self.head, &mut self.front] {
            if buffer.capacity() > USUAL_HEAD {
                *buffer = Vec::new();
            }
        }
    }
}

/// What is left of a piece, once `skip` bytes of it and of those after it are sent.
fn after<'a>(piece: &'a [u8], skip: &mut usize) -> &'a [u8] {
    let skipped = (*skip).min(piece.len());
    *skip -= skipped;
    &piece[skipped..]
}

fn push_hex(to: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let nibble = number >> (4 * digit) & 0xf;
        to.push(b"0123456789abcdef"[nibble]);
    }
}

/// Fields that say how a message is framed, routed or who sends it have no place after it (RFC 9110 §6.5.1).
fn may_trail(name: &http::HeaderName) -> bool {
    ![
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::HOST,
        header::MAX_FORWARDS,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
    ]
    .contains(name)
}
