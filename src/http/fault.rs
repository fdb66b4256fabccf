//! What can go wrong with a request, and what each of it is for a client: a status, an error
//! type of RFC 9209, a sentence. The answer itself is made by `respond`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::upstream::admission::Refused;

/// Why a request is not answered by a backend. Sentences for people name nothing; Proxy-Status
/// names the service and the id of the backend, for whoever runs tidegate.
#[derive(Debug, Clone)]
pub enum Fault {
    /// 400; the text says what is wrong: `the request has no Host`.
    BadRequest(&'static str),
    /// 404: no route matches.
    NoRoute,
    /// 405: what we cannot proxy, such as CONNECT.
    MethodNotAllowed,
    /// 408: the request did not arrive in time.
    RequestTimeout,
    /// 413
    BodyTooLarge,
    /// 414
    UriTooLong,
    /// 431
    HeadTooLarge,
    /// 421: the host is not one of this connection's.
    Misdirected,
    /// 403: by `route.access`.
    Denied,
    /// 429: over this limit of the route's; so long until a request would pass. `ends`: as for the next one, since that
    /// was one refusal too many.
    RateLimited { limit: Arc<str>, wait: Duration, ends: bool },
    /// 429: it was refused too often, and is not let in for so long. `ends`: the connection is its own, and ends.
    Banned { left: Duration, ends: bool },
    /// 503: the route has as many requests in flight as it may have.
    RouteFull { route: Arc<str>, max: u32 },
    /// 500: a defect of ours, caught.
    Internal,
    /// 503: nobody to send it to.
    NoBackend { service: Arc<str>, healthy: u32, total: u32, last: Option<Arc<str>> },
    /// 503: shed or over a limit of ours.
    Overloaded { service: Arc<str>, why: Busy },
    /// 503: nothing runs, and it is not waited for (any longer). `lead`: how long a start takes, where that is known;
    /// `page`: for browsers.
    NotHeld { service: Arc<str>, why: NotHeld, lead: Option<Duration>, page: Option<Bytes> },
    /// 502: could not be connected to; `why` such as `connection refused`.
    Connect { at: At, kind: ConnectKind },
    /// 502: the connection ended before the head of an answer.
    Reset { at: At },
    /// 502: the answer is not HTTP.
    BadAnswer { at: At, why: &'static str },
    /// 502: the head of the answer is larger than the client takes.
    AnswerHeadTooLarge,
    /// 504: no head of an answer within `response_timeout`.
    ResponseTimeout { at: At },
    /// 504: `route.timeout` is over.
    RouteTimeout { at: At, phase: Phase },
    /// 504: the same while it waited for a place at a backend.
    QueueRouteTimeout { service: Arc<str>, after: Duration },
    /// 504: the backend did not read the request within `write_timeout`.
    WriteTimeout { at: At },
}

/// Where it went wrong: the last try.
#[derive(Debug, Clone)]
pub struct At {
    pub service: Arc<str>,
    /// The id of the backend.
    pub backend: Arc<str>,
    /// Its uid.
    pub uid: u64,
    /// Since that backend was picked.
    pub after: Duration,
}

/// What was done with a backend when it went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    /// Sending the request.
    Sending,
    /// Waiting for the head of the answer.
    Waiting,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Sending => "sending",
            Self::Waiting => "waiting",
        }
    }
}

/// What of a service is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// Every backend has `max_in_flight` requests, and so many wait already.
    Full { waiting: u32 },
    /// The request waited so long for a place, in the end with so many.
    Waited { limit: Duration, waiting: u32 },
    /// It was not let in.
    Refused(Refused),
}

/// Why a request is not held until a backend is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotHeld {
    /// Its path wakes nobody.
    Ignored,
    /// A page is shown meanwhile.
    Page,
    /// So many wait already, or their heads take too much.
    Full { held: u32 },
    /// So many of this client wait already.
    PerClient { most: u32 },
    /// It has waited so long, in the end with so many.
    Waited { limit: Duration, held: u32 },
    /// What was started came to nothing.
    Failed { cause: Arc<str> },
}

impl fmt::Display for NotHeld {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignored => out.write_str("nothing runs, and this path wakes nobody"),
            Self::Page => out.write_str("nothing runs yet, it is being started"),
            Self::Full { held } => write!(out, "nothing runs yet, and {held} wait already"),
            Self::PerClient { most } => {
                write!(out, "nothing runs yet, and {most} of this client wait already")
            }
            Self::Waited { limit, held } => {
                write!(out, "nothing was ready within {limit:?} ({held} waiting)")
            }
            Self::Failed { cause } => write!(out, "it could not be started: {cause}"),
        }
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { waiting: 0 } => out.write_str("every backend has max_in_flight requests"),
            Self::Full { waiting } => {
                write!(out, "every backend has max_in_flight requests ({waiting} waiting)")
            }
            Self::Waited { limit, waiting } => {
                write!(out, "waited {limit:?} in the queue ({waiting} waiting)")
            }
            Self::Refused(why) => why.fmt(out),
        }
    }
}

/// How connecting failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectKind {
    Refused,
    TimedOut,
    Unreachable,
    Reset,
    /// Its certificate does not prove what it has to.
    Certificate,
    /// TLS could not be agreed on.
    Tls,
    /// Out of descriptors, ports or memory on our side.
    Local,
    Other,
}

impl Fault {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::RateLimited { .. } | Self::Banned { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoBackend { .. }
            | Self::Overloaded { .. }
            | Self::NotHeld { .. }
            | Self::RouteFull { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect { kind: ConnectKind::TimedOut, .. }
            | Self::ResponseTimeout { .. }
            | Self::RouteTimeout { .. }
            | Self::QueueRouteTimeout { .. }
            | Self::WriteTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect { kind: ConnectKind::Local, .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect { .. }
            | Self::Reset { .. }
            | Self::BadAnswer { .. }
            | Self::AnswerHeadTooLarge => StatusCode::BAD_GATEWAY,
        }
    }

    /// The connection to the client must not be used for another request: where the next one
    /// begins is not known, or a body is left unread.
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::RequestTimeout
                | Self::BodyTooLarge
                | Self::UriTooLong
                | Self::HeadTooLarge
                | Self::MethodNotAllowed
                | Self::Internal
                | Self::Banned { ends: true, .. }
                | Self::RateLimited { ends: true, .. }
        )
    }

    /// Worth a Retry-After: the same request may pass in a moment.
    pub(super) fn passes_later(&self) -> bool {
        matches!(self.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    }

    /// Error type of RFC 9209 §2.3.
    pub fn proxy_error(&self) -> &'static str {
        match self {
            Self::BadRequest(_)
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::BodyTooLarge
            | Self::UriTooLong
            | Self::HeadTooLarge
            | Self::Misdirected => "http_request_error",
            Self::Denied | Self::RateLimited { .. } | Self::Banned { .. } => "http_request_denied",
            Self::NoRoute => "destination_not_found",
            Self::Internal => "proxy_internal_error",
            Self::NoBackend { .. } | Self::NotHeld { .. } => "destination_unavailable",
            Self::Overloaded { .. } | Self::RouteFull { .. } => "connection_limit_reached",
            Self::Connect { kind, .. } => match kind {
                ConnectKind::Refused => "connection_refused",
                ConnectKind::TimedOut => "connection_timeout",
                ConnectKind::Unreachable => "destination_ip_unroutable",
                ConnectKind::Reset => "connection_terminated",
                ConnectKind::Certificate => "tls_certificate_error",
                ConnectKind::Tls => "tls_protocol_error",
                ConnectKind::Local => "connection_limit_reached",
                ConnectKind::Other => "destination_unavailable",
            },
            Self::Reset { .. } => "connection_terminated",
            Self::BadAnswer { .. } => "http_protocol_error",
            Self::AnswerHeadTooLarge => "http_response_header_section_size",
            Self::ResponseTimeout { .. }
            | Self::RouteTimeout { .. }
            | Self::QueueRouteTimeout { .. } => "http_response_timeout",
            Self::WriteTimeout { .. } => "connection_write_timeout",
        }
    }

    /// The backend it went wrong with, and what was done then.
    pub fn at(&self) -> Option<(&At, Phase)> {
        Some(match self {
            Self::Connect { at, .. } => (at, Phase::Connecting),
            Self::WriteTimeout { at } => (at, Phase::Sending),
            Self::Reset { at } | Self::BadAnswer { at, .. } | Self::ResponseTimeout { at } => {
                (at, Phase::Waiting)
            }
            Self::RouteTimeout { at, phase } => (at, *phase),
            _ => return None,
        })
    }

    /// What Proxy-Status says besides the error type: `app: 0 of 3 healthy, last: connection refused`,
    /// `app: waiting, after 60.000 s`.
    pub fn details(&self) -> Option<String> {
        Some(match self {
            Self::BadRequest(what) => (*what).to_owned(),
            Self::NoBackend { service, healthy, total, last } => {
                let last = last.as_ref().map(|last| format!(", last: {last}")).unwrap_or_default();
                format!("{service}: {healthy} of {total} healthy{last}")
            }
            Self::Overloaded { service, why } => format!("{service}: {why}"),
            Self::NotHeld { service, why, .. } => format!("{service}: {why}"),
            Self::RateLimited { limit, .. } => format!("over the rate limit {limit}"),
            Self::Banned { .. } => "refused too often".to_owned(),
            Self::RouteFull { route, max } => format!("{route}: {max} requests in flight"),
            Self::QueueRouteTimeout { service, after } => {
                let after = after.as_secs_f64();
                format!("{service}: queued, after {after:.3} s, the route's timeout is over")
            }
            _ => {
                let (At { service, after, .. }, phase) = self.at()?;
                let why = match self {
                    Self::BadAnswer { why, .. } => format!(", {why}"),
                    Self::Connect { kind: ConnectKind::Local, .. } => {
                        ", no descriptor, port or memory left for a connection".to_owned()
                    }
                    Self::RouteTimeout { .. } => ", the route's timeout is over".to_owned(),
                    _ => String::new(),
                };
                let after = after.as_secs_f64();
                format!("{service}: {}, after {after:.3} s{why}", phase.as_str())
            }
        })
    }

    /// One sentence for a person; names no service and no address.
    pub fn sentence(&self) -> String {
        let text = match self {
            Self::BadRequest(what) => return format!("This request cannot be served: {what}."),
            Self::NoRoute => "There is nothing at this address.",
            Self::MethodNotAllowed => "This method is not supported here.",
            Self::RequestTimeout => "The request did not arrive in time.",
            Self::BodyTooLarge => "The request body is too large.",
            Self::UriTooLong => "The address is too long.",
            Self::HeadTooLarge => "The request headers are too large.",
            Self::Misdirected => "This host is not served on this connection.",
            Self::Denied => "You may not use this address from where you are.",
            Self::RateLimited { .. } => "There were too many requests; wait a moment.",
            Self::Banned { .. } => "There were too many requests; come back later.",
            Self::Internal => "Something went wrong on our side.",
            Self::NoBackend { .. } => "The service is not available at the moment.",
            Self::Overloaded { .. } | Self::RouteFull { .. } => {
                "The service is busy at the moment."
            }
            Self::NotHeld { why: NotHeld::Failed { .. }, .. } => {
                "The service could not be started."
            }
            Self::NotHeld { .. } => "The service is not running yet.",
            Self::Connect { kind: ConnectKind::TimedOut, .. }
            | Self::ResponseTimeout { .. }
            | Self::RouteTimeout { .. }
            | Self::QueueRouteTimeout { .. }
            | Self::WriteTimeout { .. } => "The service did not answer in time.",
            Self::Connect { .. } => "The service cannot be reached at the moment.",
            Self::Reset { .. } | Self::BadAnswer { .. } => "The service did not answer properly.",
            Self::AnswerHeadTooLarge => "The headers of the answer are larger than you take.",
        };
        text.to_owned()
    }
}
