//! What became of one request, and why it failed.
//!
//! A request failed if it had an accepted connection and no complete answer, or a 5xx that is
//! not a backend's own. Connections that were never accepted are counted apart: behind another
//! balancer, or with a retry, nobody would notice them.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::StatusCode;

/// Why there was no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The connection was refused: never accepted, so not a failed request.
    Refused,
    /// No connection for another reason (unreachable, timeout while connecting).
    Connect,
    /// This machine had no port or descriptor left for a connection.
    Local,
    /// The TLS handshake failed.
    Tls,
    /// The connection was reset, before or within the answer.
    Reset,
    /// The connection was closed in order before the first byte of the answer.
    Closed,
    /// The answer began and did not end.
    Incomplete,
    /// No complete answer in time.
    Timeout,
    /// A 5xx of the proxy itself.
    Status5xx,
    /// The protocol was broken.
    Protocol,
}

impl Cause {
    /// The name that the JSON report has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Connect => "connect",
            Self::Local => "local",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Incomplete => "incomplete",
            Self::Timeout => "timeout",
            Self::Status5xx => "status_5xx",
            Self::Protocol => "protocol",
        }
    }

    /// Whether it is a failed request, by the definition above.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Refused | Self::Connect | Self::Local)
    }

    /// Of a failed attempt to connect.
    pub(super) fn of_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::AddrNotAvailable => Self::Local,
            _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => Self::Local,
            _ => Self::Connect,
        }
    }

    /// Of an exchange that broke; `begun`: the head of the answer was there.
    pub(super) fn of_exchange(error: &hyper::Error, begun: bool) -> Self {
        if is_reset(error) {
            Self::Reset
        } else if begun {
            Self::Incomplete
        } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            Self::Closed
        } else {
            match find::<h2::Error>(error) {
                Some(error) if error.is_go_away() || error.is_io() => Self::Closed,
                Some(error) if error.is_reset() => Self::Reset,
                _ if find::<io::Error>(error).is_some() => Self::Closed,
                _ => Self::Protocol,
            }
        }
    }
}

impl serde::Serialize for Cause {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// A complete answer.
    Answer {
        status: StatusCode,
        backend: Option<String>,
        bytes: u64,
        own_error: bool,
    },
    Failed(Cause),
}

/// One request that is over.
#[derive(Debug, Clone)]
pub(super) struct Done {
    /// When it was due, since the start.
    pub(super) due: Duration,
    /// From then to the last byte.
    pub(super) latency: Duration,
    /// From then to the sending.
    pub(super) late: Duration,
    pub(super) outcome: Outcome,
}

/// Whether the request was certainly not looked at: HTTP/2 says so itself, by REFUSED_STREAM
/// (RFC 9113, section 8.7) or by a GOAWAY whose last stream is before this one.
pub(super) fn is_unprocessed(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        error.is_remote()
            && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

fn is_reset(error: &hyper::Error) -> bool {
    let io =
        find::<io::Error>(error).or_else(|| find::<h2::Error>(error).and_then(h2::Error::get_io));
    io.is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionAborted
        )
    })
}

/// The first error of that type in the chain of causes.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
