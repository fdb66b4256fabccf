//! What an answer can be refused for before a client sees any of it.

use super::Wrong;

/// Why the bytes of a backend are not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Wrong in a request, too.
    Framing(Wrong),
    /// The status line is not `HTTP/1.1 200 OK`, or `HTTP/1.0`.
    StatusLine,
    /// 101 without having been asked for another protocol (RFC 9110 §15.2.2), or without naming one.
    Switch,
    /// A body is announced where there can be none: with 1xx and 204 (RFC 9112 §6.1, §6.2).
    NoBody,
    /// More informational answers than anybody needs.
    Informational,
    /// Bytes that belong to no answer.
    Unasked,
}

impl Flaw {
    /// As a part of a sentence: `a line ends without CR`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Framing(wrong) => wrong.text(),
            Self::StatusLine => "the status line is not HTTP/1.1 STATUS REASON",
            Self::Switch => "it switches to another protocol, unasked or without naming one",
            Self::NoBody => "a body is announced where there can be none",
            Self::Informational => "there are too many informational answers",
            Self::Unasked => "bytes came that belong to no answer",
        }
    }
}

impl From<Wrong> for Flaw {
    fn from(wrong: Wrong) -> Self {
        Self::Framing(wrong)
    }
}
