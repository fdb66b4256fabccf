//! One place on a connection to a backend, behind a narrow type: who sends a request does not see which
//! protocol is spoken, and a codec can be exchanged without anyone above noticing.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt;
use futures_util::future::Either;
use http::Response;
use http_body::{Body, Frame, SizeHint};

use crate::clock::Clock;
use crate::worker::timers::Timers;

use super::counted::Counted;
use super::http1::{self, Http1};
use super::http2::{self, Multiplexed, Stream};
use super::link::Link;
use super::outgoing::Outgoing;
use super::socket::{Socket, Target};

/// The answer's body, as the codec delivers it.
pub enum AnswerBody {
    Http1(http1::Body),
    /// Boxed: it is three times the other.
    Http2(Box<http2::Body>),
}

/// Why an answer did not come, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// What is wrong with it, as a part of a sentence.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(&'static str),
    #[error("the connection broke")]
    Broken,
}

/// What one request at a time may use.
pub enum Conn {
    /// A connection of its own.
    Http1(Http1),
    /// A stream of a connection that others use, too.
    Http2(Stream),
}

/// The head of a request, as it was sent.
pub enum Kept {
    Http1(http1::Kept),
    Http2(http2::Kept),
}

impl Kept {
    /// A copy, if it was kept and sent.
    pub fn copy_head(&self) -> Option<Vec<u8>> {
        match self {
            Self::Http1(kept) => kept.copy_head(),
            Self::Http2(kept) => kept.copy_head(),
        }
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum SendError {
    /// No byte of it was sent; here it is again, for another connection.
    Unsent(Box<Outgoing>),
    /// The backend said that it has not looked at it (RFC 9113 §8.7: REFUSED_STREAM, or a stream above the
    /// last of a GOAWAY).
    Refused,
    /// It asks for another protocol, and the connection carries none.
    NoTunnels,
    /// Part of it may have been seen by the backend.
    Sent(Lost),
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
pub async fn open(opening: Opening<'_>, clock: Clock) -> io::Result<Opened> {
    let Opening { target, prior_knowledge, write_timeout, timers, counted } = opening;
    let socket = Socket::connect(target).await?;
    if prior_knowledge || socket.speaks_h2() {
        let multiplexed = Multiplexed::begin(socket, write_timeout, timers, clock, counted);
        return Ok(Opened::Http2(Box::pin(multiplexed).await?));
    }
    Ok(Opened::Http1(Http1::begin(socket, write_timeout, timers, clock, counted)))
}

impl Conn {
    /// Sends a request and resolves with the head of the answer. `keep_head`: it may have to be
    /// sent again; `upgrade`: it asks for another protocol.
    pub fn send(
        &mut self,
        request: Box<Outgoing>,
        keep_head: bool,
        upgrade: bool,
    ) -> impl Future<Output = Result<Box<Response<AnswerBody>>, SendError>> + use<> {
        match self {
            Self::Http1(conn) => Either::Left(conn.send(request, keep_head, upgrade)),
            Self::Http2(stream) => {
                let request = request.whole();
                let answer = match upgrade {
                    true => Either::Left(stream.open(request)),
                    false => Either::Right(stream.send(request)),
                };
                let whole = |body| AnswerBody::Http2(Box::new(body));
                Either::Right(answer.map_ok(move |answer| Box::new(answer.map(whole))))
            }
        }
    }

    /// Informational answers (1xx) to the current request that came since this was last asked; never 100 or 101.
    #[inline]
    pub fn take_interim(&self) -> Vec<Response<()>> {
        match self {
            Self::Http1(conn) => conn.take_interim(),
            Self::Http2(stream) => stream.take_interim(),
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
            Self::Http1(conn) => Kept::Http1(conn.kept()),
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

    /// Shared with others, and told to take no more requests (GOAWAY).
    pub fn is_leaving(&self) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(stream) => !stream.is_open(),
        }
    }

    /// The backend read nothing for `write_timeout`.
    pub fn write_timed_out(&self) -> bool {
        match self {
            Self::Http1(conn) => conn.write_timed_out(),
            Self::Http2(stream) => stream.write_timed_out(),
        }
    }

    /// After a 101: what carries the other protocol, and what was read beyond the head. `None` if it broke.
    pub fn into_link(self) -> Option<(Link, Bytes)> {
        match self {
            Self::Http1(conn) => {
                conn.into_socket().map(|(socket, early)| (Link::Socket(socket), early))
            }
            Self::Http2(stream) => Some((stream.into_link()?, Bytes::new())),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Lost;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
