//! What was read from a backend and is not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio_util::io::poll_read_buf;

use crate::upstream::socket::Socket;

/// The first read: most answers fit.
const FIRST: usize = 4 * 1024;
/// Reads grow up to this while they fill what there is: large bodies cost by the read, not by the byte.
const LARGEST: usize = 256 * 1024;
/// Less room than this is no use for a read.
const LEAST: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    /// Size of the next buffer.
    next: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), next: FIRST }
    }
}

impl Input {
    /// Reads more. 0: the backend has ended.
    pub(super) fn poll_fill(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.capacity() - self.bytes.len() < LEAST {
            self.bytes.reserve(self.next);
        }
        let room = self.bytes.capacity() - self.bytes.len();
        let read = ready!(poll_read_buf(Pin::new(socket), cx, &mut self.bytes))?;
        if read == room {
            self.next = (self.next * 4).min(LARGEST);
        }
        Poll::Ready(Ok(read))
    }

    /// Up to so many bytes that are there.
    pub(super) fn take(&mut self, most: u64) -> Bytes {
        let size = usize::try_from(most).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.split_to(size).freeze()
    }

    /// An idle connection keeps no more than a small buffer.
    pub(super) fn rest(&mut self) {
        if self.next > FIRST || self.bytes.capacity() > FIRST {
            *self = Self::default();
        }
    }
}
