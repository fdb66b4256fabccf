//! What a backend sends over HTTP/1, let through answer by answer: bytes reach the codec only once the head that
//! they begin with is whole and [`framing`](crate::framing) found nothing wrong with it.
//!
//! The usual read brings whole heads, or parts of a body: it goes straight into the codec's buffer and costs a
//! look. What is incomplete is held here, up to the size that a head may have.

use tokio::io::ReadBuf;

use crate::framing::{Answers, Asked, Flaw};

/// Bytes of a head of an answer, and of all informational ones to a request.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

/// The strict reading of one connection.
#[derive(Debug)]
pub(super) struct Strict {
    answers: Answers,
    /// Read and not passed on yet.
    held: Vec<u8>,
    /// So many bytes of it are fine.
    fine: usize,
    flaw: Option<Flaw>,
}

/// What is to be done for a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Read from the socket into the codec's buffer, then call [`Strict::took`].
    Read,
    /// Read from the socket, then call [`Strict::hold`].
    ReadAside,
    /// The codec has bytes.
    Done,
    /// There will be no more.
    Wrong(Flaw),
}

impl Strict {
    pub(super) fn new() -> Self {
        Self { answers: Answers::new(HEAD_BYTES), held: Vec::new(), fine: 0, flaw: None }
    }

    /// A request was sent.
    pub(super) fn expect(&mut self, asked: Asked) {
        self.answers.expect(asked);
    }

    /// What was found wrong: nothing more is passed on.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        self.flaw
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
        match self.flaw {
            Some(flaw) => Next::Wrong(flaw),
            None if self.held.is_empty() => Next::Read,
            None => Next::ReadAside,
        }
    }

    /// The codec's buffer has new bytes from `before` on: takes back what it must not have yet. False:
    /// nothing is left of them.
    #[inline]
    pub(super) fn took(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let new = &buf.filled()[before..];
        let fine = match self.answers.scan(new, |_, _| {}) {
            Ok(fine) if fine == new.len() => return true,
            Ok(fine) => {
                self.held = new[fine..].to_vec();
                fine
            }
            Err((fine, flaw)) => {
                self.flaw = Some(flaw);
                fine
            }
        };
        buf.set_filled(before + fine);
        fine > 0
    }

    /// Takes bytes that were read aside.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        match self.answers.scan(&self.held, |_, _| {}) {
            Ok(fine) => self.fine = fine,
            Err((fine, flaw)) => {
                self.held.truncate(fine);
                (self.fine, self.flaw) = (fine, Some(flaw));
            }
        }
    }
}
