//! HTTP/1.1 message framing, strictly read (RFC 9112 §2–7): where each request, or answer, on a connection
//! begins and ends, before any codec sees it.
//!
//! A request that two parsers may cut in different places is how one client's bytes become another's request.
//! Codecs are lenient, each in its way; here whatever is not plain is [`Wrong`], in an answer a [`Flaw`]. Only
//! framing is judged: methods, targets, names and values are the codec's, hosts and paths are judged where they
//! are used. Nothing is copied: [`Scanner::scan`] says how much of what was read may be passed on.

mod answer;
mod chunks;
mod flaw;
mod head;
mod short;
mod wrong;

#[cfg(test)]
mod tests;

pub use answer::{Ends, Head as AnswerHead, Rest, read as read_answer};
pub use chunks::{Chunks, Part};
pub use flaw::Flaw;
pub use wrong::Wrong;

pub use head::{Body, blanks_off};
pub use short::find;

/// What the answer to a request depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Its method is HEAD.
    pub head: bool,
    /// It asks for another protocol.
    pub upgrade: bool,
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// The request whose body is read asks for another protocol.
    asks: bool,
    /// Bytes that a head may have.
    head_bytes: usize,
}

#[derive(Debug)]
enum State {
    Head,
    /// So many bytes of a body are left.
    Length(u64),
    Chunked(Chunks),
    /// The request asks for another protocol: what follows may be that.
    Asked,
    Wrong,
}

impl Scanner {
    pub fn new(head_bytes: usize) -> Self {
        Self { state: State::Head, asks: false, head_bytes }
    }

    /// How many of these bytes may be passed on. The rest has to be held back and scanned again with what
    /// comes after it: it is an incomplete head, or what follows a request for another protocol.
    ///
    /// # Errors
    /// What is wrong, and how many bytes before it may be passed on. Nothing after that is ever good.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<usize, (usize, Wrong)> {
        let mut good = 0;
        while good < bytes.len() {
            let rest = &bytes[good..];
            match &mut self.state {
                State::Head => match head::read(rest, self.head_bytes) {
                    Ok(None) => break,
                    Ok(Some(head)) => {
                        good += head.len;
                        self.asks = head.asks;
                        self.state = match head.body {
                            Body::None => self.after(),
                            Body::Length(length) => State::Length(length),
                            Body::Chunked => State::Chunked(Chunks::default()),
                        };
                    }
                    Err(wrong) => return Err(self.refuse(good, wrong)),
                },
                State::Length(left) => {
                    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    good += passed;
                    *left -= passed as u64;
                    if *left == 0 {
                        self.state = self.after();
                    }
                }
                State::Chunked(chunks) => match chunks.read(rest) {
                    Ok((passed, ended)) => {
                        good += passed;
                        if ended {
                            self.state = self.after();
                        }
                    }
                    Err(passed) => return Err(self.refuse(good + passed, Wrong::Chunk)),
                },
                State::Asked | State::Wrong => break,
            }
        }
        Ok(good)
    }

    /// The protocol stays HTTP/1.1: what was held back is the next request.
    pub fn stays(&mut self) {
        if matches!(self.state, State::Asked) {
            self.state = State::Head;
        }
    }

    /// Nothing more is passed on.
    pub fn is_wrong(&self) -> bool {
        matches!(self.state, State::Wrong)
    }

    /// A request for another protocol waits for its answer.
    pub fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked)
    }

    /// Whether what comes next is the head of a request.
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// What comes after the request.
    fn after(&self) -> State {
        if self.asks { State::Asked } else { State::Head }
    }

    fn refuse(&mut self, good: usize, wrong: Wrong) -> (usize, Wrong) {
        self.state = State::Wrong;
        (good, wrong)
    }
}
