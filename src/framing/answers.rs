//! The answers on one connection to a backend: where each begins and ends, as strictly as requests are read.
//!
//! An answer that two parsers may cut in different places, or bytes behind one, would become the answer to
//! somebody else's request on the same connection.

use super::answer::{self, Rest};
use super::chunks::Chunks;
use super::flaw::Flaw;
use super::head::Body;
use super::{Asked, Wrong};

/// Informational answers to one request.
const MOST_INFORMATIONAL: u8 = 100;

/// Follows the answers of one connection.
#[derive(Debug)]
pub struct Answers {
    state: State,
    asked: Asked,
    /// Bytes that a head may have, and all informational ones to a request together.
    head_bytes: usize,
    informational: (u8, usize),
}

#[derive(Debug)]
enum State {
    /// No request waits for an answer.
    Idle,
    Head,
    /// So many bytes of a body are left.
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    /// Another protocol is spoken.
    Switched,
    Wrong(Flaw),
}

impl Answers {
    pub fn new(head_bytes: usize) -> Self {
        let asked = Asked::default();
        Self { state: State::Idle, asked, head_bytes, informational: (0, 0) }
    }

    /// A request was sent, and what comes next is its answer.
    pub fn expect(&mut self, asked: Asked) {
        if matches!(self.state, State::Idle) {
            (self.state, self.asked, self.informational) = (State::Head, asked, (0, 0));
        }
    }

    /// How many of these bytes may be passed on. The rest is an incomplete head, and has to be held back and
    /// scanned again with what comes after it. `told` gets each informational head but 101.
    ///
    /// # Errors
    /// What is wrong, and how many bytes before it may be passed on. Nothing after that is ever good.
    pub fn scan(
        &mut self,
        bytes: &[u8],
        mut told: impl FnMut(u16, &[u8]),
    ) -> Result<usize, (usize, Flaw)> {
        let mut good = 0;
        while good < bytes.len() {
            let rest = &bytes[good..];
            match &mut self.state {
                State::Head => match answer::read(rest, self.head_bytes, self.asked) {
                    Ok(None) => break,
                    Ok(Some(head)) => {
                        if head.rest == Rest::Head {
                            if let Err(flaw) = self.one_more(head.len) {
                                return Err(self.refuse(good, flaw));
                            }
                            told(head.status, &rest[..head.len]);
                        }
                        good += head.len;
                        self.state = match head.rest {
                            Rest::Head => State::Head,
                            Rest::Switched => State::Switched,
                            Rest::UntilClose => State::UntilClose,
                            Rest::Body(Body::None) => State::Idle,
                            Rest::Body(Body::Length(length)) => State::Length(length),
                            Rest::Body(Body::Chunked) => State::Chunked(Chunks::default()),
                        };
                    }
                    Err(flaw) => return Err(self.refuse(good, flaw)),
                },
                State::Length(left) => {
                    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    good += passed;
                    *left -= passed as u64;
                    if *left == 0 {
                        self.state = State::Idle;
                    }
                }
                State::Chunked(chunks) => match chunks.read(rest) {
                    Ok((passed, ended)) => {
                        good += passed;
                        if ended {
                            self.state = State::Idle;
                        }
                    }
                    Err(passed) => return Err(self.refuse(good + passed, Wrong::Chunk.into())),
                },
                State::UntilClose | State::Switched => good = bytes.len(),
                State::Idle => return Err(self.refuse(good, Flaw::Unasked)),
                State::Wrong(flaw) => return Err((good, *flaw)),
            }
        }
        Ok(good)
    }

    /// Takes an informational head into account.
    fn one_more(&mut self, len: usize) -> Result<(), Flaw> {
        let (count, bytes) = &mut self.informational;
        *count += 1;
        *bytes += len;
        let fine = *count <= MOST_INFORMATIONAL && *bytes <= self.head_bytes;
        if fine { Ok(()) } else { Err(Flaw::Informational) }
    }

    fn refuse(&mut self, good: usize, flaw: Flaw) -> (usize, Flaw) {
        self.state = State::Wrong(flaw);
        (good, flaw)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1024;

    /// What is passed on of the answer to one request, `step` bytes at a time, and what is wrong.
    fn scan(asked: Asked, bytes: &[u8], step: usize) -> (Vec<u8>, Option<Flaw>) {
        let mut answers = Answers::new(LIMIT);
        answers.expect(asked);
        let (mut passed, mut held) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(step.max(1)) {
            held.extend_from_slice(piece);
            match answers.scan(&held, |_, _| {}) {
                Ok(good) => passed.extend(held.drain(..good)),
                Err((good, flaw)) => {
                    passed.extend(held.drain(..good));
                    assert_eq!(answers.scan(b"HTTP", |_, _| {}), Err((0, flaw)), "it stays wrong");
                    return (passed, Some(flaw));
                }
            }
        }
        (passed, None)
    }

    const GET: Asked = Asked { head: false, upgrade: false };
    const HEAD: Asked = Asked { head: true, upgrade: false };
    const UPGRADE: Asked = Asked { head: false, upgrade: true };

    fn flaw(asked: Asked, text: &str) -> Option<Flaw> {
        scan(asked, text.as_bytes(), usize::MAX).1
    }

    #[test]
    fn an_answer_ends_where_its_head_says() {
        for (asked, answer) in [
            (GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
            (GET, "HTTP/1.1 200\r\ncontent-length:0\r\n\r\n"),
            (
                GET,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: v\r\n\r\n",
            ),
            (
                GET,
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            ),
            (GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"),
            (HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
            (HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ] {
            let more = format!("{answer}HTTP/1.1 200 OK\r\n\r\n");
            for step in [1, 2, 7, usize::MAX] {
                assert_eq!(scan(asked, answer.as_bytes(), step), (answer.into(), None), "{answer}");
                let (passed, flaw) = scan(asked, more.as_bytes(), step);
                assert_eq!((passed, flaw), (answer.into(), Some(Flaw::Unasked)), "{answer}");
            }
        }
    }

    #[test]
    fn without_a_length_it_ends_with_the_connection_and_after_101_it_is_something_else() {
        let open = "HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 200 OK\n\n";
        assert_eq!(scan(GET, open.as_bytes(), 5), (open.into(), None));
        let switched = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\n\nany";
        assert_eq!(scan(UPGRADE, switched.as_bytes(), 5), (switched.into(), None));
        assert_eq!(flaw(GET, switched), Some(Flaw::Switch));
        assert_eq!(flaw(UPGRADE, "HTTP/1.1 101 Switching\r\n\r\n"), Some(Flaw::Switch));
    }

    #[test]
    fn bytes_before_any_request_are_nobodys() {
        let mut answers = Answers::new(LIMIT);
        assert_eq!(answers.scan(b"HTTP/1.1 200 OK\r\n", |_, _| {}), Err((0, Flaw::Unasked)));
    }

    #[test]
    fn informational_heads_are_told_and_bounded() {
        let mut answers = Answers::new(LIMIT);
        answers.expect(GET);
        let mut heard = Vec::new();
        let early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let result = answers.scan(early, |status, head| heard.push((status, head.to_vec())));
        assert_eq!((result, heard), (Ok(early.len()), vec![(103, early.to_vec())]));
        let many = "HTTP/1.1 100 C\r\n\r\n";
        assert_eq!(flaw(GET, &many.repeat(LIMIT / many.len())), None);
        assert_eq!(flaw(GET, &many.repeat(LIMIT / many.len() + 1)), Some(Flaw::Informational));
    }

    #[test]
    fn what_is_no_http_is_refused_at_its_first_bytes() {
        for text in ["SSH-2.0", "\r\n", "<html>", "HTTP/2", " HTTP/1.1 200 OK\r\n\r\n", "h"] {
            assert_eq!(flaw(GET, text), Some(Flaw::StatusLine), "{text:?}");
        }
    }

    proptest! {
        /// However a backend's bytes are cut, the same of them is passed on.
        #[test]
        fn cutting_changes_nothing(
            bytes in "(HTTP/1.[01] (100|101|200|204|304|999) ?\r\n(content-length: [0-9]{1,2}|transfer-encoding: chunked|a: b)\r\n\r\n){1,2}([0-9a-f;\r\n]{0,20})",
            step in 1_usize..40,
            head in any::<bool>(),
            upgrade in any::<bool>(),
        ) {
            let asked = Asked { head, upgrade };
            prop_assert_eq!(
                scan(asked, bytes.as_bytes(), step), scan(asked, bytes.as_bytes(), usize::MAX)
            );
        }
    }
}
