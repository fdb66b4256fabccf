//! One place on a connection to a backend, behind a narrow type: who sends a request does not see which
//! protocol is spoken, and a codec can be exchanged without anyone above noticing.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::clock::Micros;
use crate::framing::Flaw;
use crate::worker::timers::Timers;

use super::body::RequestBody;
use super::counted::Counted;
use super::http1::Http1;
use super::http2::{Multiplexed, Stream};
use super::io::Wire;
use super::socket::{Socket, Target};

/// The answer's body, as the codec delivers it.
pub type AnswerBody = Incoming;

/// What one request at a time may use.
pub enum Conn {
    /// A connection of its own.
    Http1(Http1),
    /// A stream of a connection that others use, too.
    Http2(Stream),
}

/// The head of a request, as it was sent.
pub enum Kept {
    Http1(Rc<Wire>),
    Http2(Rc<RefCell<Option<Vec<u8>>>>),
}

impl Kept {
    /// A copy, if it was kept and sent.
    pub fn copy_head(&self) -> Option<Vec<u8>> {
        match self {
            Self::Http1(wire) => wire.copy_head(),
            Self::Http2(head) => head.borrow().clone(),
        }
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum SendError {
    /// No byte of it was sent; here it is again, for another connection.
    Unsent(Box<Request<RequestBody>>),
    /// The backend said that it has not looked at it (RFC 9113 §8.7: REFUSED_STREAM, or a stream above the
    /// last of a GOAWAY).
    Refused,
    /// Part of it may have been seen by the backend.
    Sent(hyper::Error),
}

/// How a connection is opened.
pub struct Opening<'a> {
    pub target: Target<'a>,
    /// HTTP/2 without being asked for it.
    pub prior_knowledge: bool,
    pub write_timeout: Duration,
    pub timers: &'a Rc<Timers>,
    pub counted: Counted,
}

/// A new connection.
pub enum Opened {
    Http1(Http1),
    Http2(Rc<Multiplexed>),
}

/// Opens a connection. The caller bounds the wait.
///
/// # Errors
/// The socket's, or TLS failed.
pub async fn open(opening: Opening<'_>, now: impl Fn() -> Micros + 'static) -> io::Result<Opened> {
    let Opening { target, prior_knowledge, write_timeout, timers, counted } = opening;
    let socket = Socket::connect(target).await?;
    if prior_knowledge || socket.speaks_h2() {
        let multiplexed = Multiplexed::begin(socket, write_timeout, timers, now, counted);
        return Ok(Opened::Http2(Box::pin(multiplexed).await?));
    }
    Ok(Opened::Http1(Http1::begin(socket, write_timeout, timers, now, counted).await?))
}

impl Conn {
    /// The request before is done with.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Http1(conn) => conn.is_ready(),
            Self::Http2(_) => true,
        }
    }

    /// Ready once the request before is done with; false if the connection is closed.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match self {
            Self::Http1(conn) => conn.poll_ready(cx),
            Self::Http2(_) => Poll::Ready(true),
        }
    }

    /// Sends a request and resolves with the head of the answer. `keep_head`: it may have to be
    /// sent again; `upgrade`: it asks for another protocol.
    pub fn send(
        &mut self,
        request: Request<RequestBody>,
        keep_head: bool,
        upgrade: bool,
    ) -> impl Future<Output = Result<Response<AnswerBody>, SendError>> + use<> {
        match self {
            Self::Http1(conn) => Either::Left(conn.send(request, keep_head, upgrade)),
            Self::Http2(stream) => Either::Right(stream.send(request)),
        }
    }

    /// The head of the current request as it was sent, if it was kept.
    pub fn take_head(&self) -> Option<Vec<u8>> {
        match self {
            Self::Http1(conn) => conn.take_head(),
            Self::Http2(stream) => stream.take_head(),
        }
    }

    /// Where the head of the current request is kept, for somebody else to look at.
    pub fn kept(&self) -> Kept {
        match self {
            Self::Http1(conn) => Kept::Http1(conn.wire()),
            Self::Http2(stream) => Kept::Http2(stream.kept()),
        }
    }

    /// A request that breaks off without a byte of an answer may have met the end of a connection that
    /// was idle: nothing is said about the backend by that.
    pub fn may_be_stale(&self) -> bool {
        match self {
            Self::Http1(conn) => !conn.answered() && !conn.write_timed_out(),
            // A backend that ends a connection says which streams it has not looked at.
            Self::Http2(_) => false,
        }
    }

    /// The backend read nothing for `write_timeout`.
    pub fn write_timed_out(&self) -> bool {
        match self {
            Self::Http1(conn) => conn.write_timed_out(),
            Self::Http2(stream) => stream.write_timed_out(),
        }
    }

    /// What was wrong with the answer, before or within its body.
    pub fn flaw(&self) -> Option<Flaw> {
        match self {
            Self::Http1(conn) => conn.flaw(),
            Self::Http2(_) => None,
        }
    }

    /// After a 101: the socket, and what was read beyond the head. `None` if the connection broke.
    pub async fn into_socket(self) -> Option<(Socket, Bytes)> {
        match self {
            Self::Http1(conn) => conn.into_socket().await,
            Self::Http2(_) => None,
        }
    }
}
