//! What a client sends, let through request by request: bytes reach the codec only once the head that
//! they begin with is whole and [`framing`](crate::framing) found nothing wrong with it.
//!
//! The usual read brings whole heads, or parts of a body: it goes straight into the codec's buffer and
//! costs a look. What is incomplete is held here, up to the size that a head may have.

use std::io;
use std::task::Poll;

use tokio::io::ReadBuf;

use crate::framing::{Scanner, Wrong};

/// What a client may send before its request for another protocol is answered.
const EARLY: usize = 16 * 1024;

/// The strict reading of one connection.
#[derive(Debug)]
pub struct Strict {
    scanner: Scanner,
    /// Read and not passed on yet.
    held: Vec<u8>,
    /// So many bytes of it are fine.
    fine: usize,
    wrong: Option<Wrong>,
}

/// What is to be done for a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Read from the socket into the codec's buffer, then call [`Strict::took`].
    Read,
    /// Read from the socket, then call [`Strict::hold`].
    ReadAside,
    /// The codec has bytes, or an error.
    Done,
    /// There will be nothing.
    Nothing,
}

impl Strict {
    pub(super) fn new(head_bytes: usize) -> Self {
        Self { scanner: Scanner::new(head_bytes), held: Vec::new(), fine: 0, wrong: None }
    }

    /// What was found wrong: nothing more is passed on.
    pub(super) fn wrong(&self) -> Option<Wrong> {
        self.wrong
    }

    /// A request for another protocol was answered, and not with 101.
    pub(super) fn stays(&mut self) {
        if self.scanner.is_asked() {
            self.scanner.stays();
            self.look();
        }
    }

    /// Part of a head is held.
    pub(super) fn is_in_head(&self) -> bool {
        !self.held.is_empty() && self.scanner.is_between()
    }

    /// What is held, at the end of strictness.
    pub(super) fn into_held(self) -> Vec<u8> {
        self.held
    }

    /// Gives the codec what is fine, or says where more is to come from.
    pub(super) fn next(&mut self, buf: &mut ReadBuf<'_>) -> Next {
        if self.fine > 0 {
            let passed = self.fine.min(buf.remaining());
            buf.put_slice(&self.held[..passed]);
            self.fine -= passed;
            self.held.drain(..passed);
            if self.held.is_empty() {
                self.held = Vec::new();
            }
            return Next::Done;
        }
        if self.wrong.is_some() || (self.scanner.is_asked() && self.held.len() >= EARLY) {
            return Next::Nothing;
        }
        match self.held.is_empty() && !self.scanner.is_asked() {
            true => Next::Read,
            false => Next::ReadAside,
        }
    }

    /// The codec's buffer has new bytes from `before` on: takes back what it must not have yet. False:
    /// nothing is left of them.
    #[inline]
    pub(super) fn took(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let new = &buf.filled()[before..];
        let fine = match self.scanner.scan(new) {
            Ok(fine) if fine == new.len() => return true,
            Ok(fine) => {
                self.held = new[fine..].to_vec();
                fine
            }
            Err((fine, wrong)) => {
                self.wrong = Some(wrong);
                fine
            }
        };
        buf.set_filled(before + fine);
        fine > 0
    }

    /// Takes bytes that were read aside.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        self.look();
    }

    fn look(&mut self) {
        match self.scanner.scan(&self.held) {
            Ok(fine) => self.fine = fine,
            Err((fine, wrong)) => {
                self.held.truncate(fine);
                (self.fine, self.wrong) = (fine, Some(wrong));
            }
        }
    }

    /// What the codec is told in place of bytes that are wrong: within a body an error, between requests
    /// nothing, as the answer is given in its place.
    pub(super) fn refusal(&self) -> Poll<io::Result<()>> {
        match self.wrong {
            Some(wrong @ Wrong::Chunk) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, wrong.text())))
            }
            _ => Poll::Pending,
        }
    }
}
