//! Answers before the answer: 1xx on their way to a client (RFC 9110 §15.2), 103 Early Hints above all (RFC 8297).
//!
//! hyper's server has no way to send them, so to clients of HTTP/1.1 the stream below it does: it is asked to flush only when
//! hyper has written all that it had, which is between two answers or within a body. What waits here belongs to the request
//! that runs, and is taken away when its answer begins, so it gets neither between others' bytes nor after its own.
//! What was begun is written to its end before anything else.
//!
//! Over HTTP/2 and 3 whoever polls a request sends what it says.

use std::cell::{Cell, RefCell};

use bytes::{Buf, BytesMut};
use http::{HeaderMap, Response, StatusCode};

use super::early;

/// Bytes that may wait for one client, or be said before one answer over HTTP/2; what comes beyond is left out, as
/// nobody needs it.
pub const MOST: usize = 16 * 1024;

/// Those that wait to be written to a connection.
#[derive(Debug, Default)]
pub struct Interim {
    state: Cell<State>,
    bytes: RefCell<BytesMut>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Empty,
    Waiting,
    /// Part of it was written.
    Begun,
}

impl Interim {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.state.get() == State::Empty
    }

    /// Whether the rest has to be written before anything else.
    #[inline]
    pub fn is_begun(&self) -> bool {
        self.state.get() == State::Begun
    }

    /// One more, if there is room for it.
    pub fn add(&self, head: &Response<()>) {
        let mut one = Vec::new();
        early::head(head.status(), head.headers(), &mut one);
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() + one.len() <= MOST {
            bytes.extend_from_slice(&one);
            if self.is_empty() {
                self.state.set(State::Waiting);
            }
        }
    }

    /// The answer itself begins: what was not begun comes too late.
    #[inline]
    pub fn forget(&self) {
        if self.state.get() == State::Waiting {
            let all = self.bytes.borrow().len();
            self.written(all);
        }
    }

    /// What is to be written.
    pub fn bytes(&self) -> std::cell::Ref<'_, BytesMut> {
        self.bytes.borrow()
    }

    /// So much of it was.
    pub fn written(&self, count: usize) {
        let mut bytes = self.bytes.borrow_mut();
        bytes.advance(count);
        if bytes.is_empty() {
            *bytes = BytesMut::new();
            self.state.set(State::Empty);
        } else if count > 0 {
            self.state.set(State::Begun);
        }
    }
}

/// How much one counts for where it is not written here.
pub fn size(fields: &HeaderMap) -> usize {
    // As RFC 9113 §6.5.2 counts: an entry has 32 bytes of its own, the status too.
    let fields = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    32 + fields.sum::<usize>()
}

/// Whether a backend's answer is one that clients get as it is: 100 is given by whoever reads the body, 101 is the answer.
pub fn is_passed_on(status: StatusCode) -> bool {
    status.is_informational()
        && status != StatusCode::CONTINUE
        && status != StatusCode::SWITCHING_PROTOCOLS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(link: &str) -> Response<()> {
        let hint = Response::builder().status(103).header("link", link);
        hint.body(()).expect("a head")
    }

    #[test]
    fn what_was_begun_is_written_to_its_end_and_the_rest_can_be_forgotten() {
        let waiting = Interim::default();
        waiting.add(&hint("</a>"));
        assert_eq!(&waiting.bytes()[..], b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        assert!(!waiting.is_empty() && !waiting.is_begun());
        waiting.forget();
        assert!(waiting.is_empty() && waiting.bytes().is_empty());
        waiting.add(&hint("</b>"));
        waiting.written(5);
        waiting.forget();
        assert!(waiting.is_begun());
        assert_eq!(&waiting.bytes()[..7], b"1.1 103");
        let rest = waiting.bytes().len();
        waiting.written(rest);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_client_that_reads_nothing_is_kept_no_more_than_a_few() {
        let waiting = Interim::default();
        let long = "x".repeat(1000);
        (0..100).for_each(|_| waiting.add(&hint(&long)));
        assert!(waiting.bytes().len() <= MOST && waiting.bytes().len() > MOST - 2000);
        assert!(waiting.bytes().ends_with(b"\r\n\r\n"), "whole ones only");
    }

    #[test]
    fn neither_100_nor_101_nor_an_answer() {
        let passed = [100, 101, 102, 103, 199, 200]
            .map(|status| is_passed_on(StatusCode::from_u16(status).expect("a status")));
        assert_eq!(passed, [false, false, true, true, true, false]);
    }
}
