//! Every answer that tidegate gives itself, in one place.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::fault::Fault;

/// What an answer depends on besides the fault.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub method: &'a Method,
    /// The request's Accept, if it was read.
    pub accept: Option<&'a HeaderValue>,
    /// Empty if there is none yet.
    pub request_id: &'a str,
    /// It is a gRPC call, and gets its answer in gRPC's way.
    pub grpc: bool,
    /// For 503; `None` = one second.
    pub retry_after: Option<Duration>,
}

/// The answer for a fault. `Connection: close` is among its headers if [`Fault::closes`]; on
/// HTTP/2 the caller takes it out.
pub fn fault(fault: &Fault, asked: Asked<'_>) -> Response<Bytes> {
    if asked.grpc {
        return grpc(fault, asked);
    }
    let (content_type, body) = body(fault, asked);
    let mut answer = Response::new(if *asked.method == Method::HEAD { Bytes::new() } else { body });
    *answer.status_mut() = fault.status();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PROXY_STATUS.clone(), proxy_status(fault));
    if fault.passes_later() {
        let wait = asked.retry_after.map_or(1, |wait| wait.as_secs_f64().ceil().max(1.0) as u64);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
        if matches!(fault, Fault::NotHeld { why: super::fault::NotHeld::Page, .. }) {
            // What browsers do by themselves, which Retry-After is not.
            headers.insert(header::REFRESH, HeaderValue::from(wait));
        }
    }
    if matches!(fault, Fault::MethodNotAllowed) {
        headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
    }
    if fault.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// An answer of headers only (gRPC over HTTP/2, "Trailers-Only"): HTTP's status is 200, gRPC's says what is
/// wrong. Statuses after gRPC's own table ("HTTP to gRPC Status Code Mapping"), but for the time that is over.
fn grpc(fault: &Fault, asked: Asked<'_>) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    let status = match (fault, fault.status().as_u16()) {
        (Fault::RouteTimeout { .. } | Fault::QueueRouteTimeout { .. }, _) => 4,
        (_, 401) => 16,
        (_, 403) => 7,
        (_, 404) => 12,
        (_, 413 | 429) => 8,
        (_, 502..=504) => 14,
        (_, 400..=499) => 13,
        _ => 2,
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(status));
    let mut message = fault.sentence();
    if !asked.request_id.is_empty() {
        message = format!("{message} (request {})", asked.request_id);
    }
    // Percent-encoding is asked for outside printable ASCII, and for the percent sign.
    let message: String =
        percent_encoding::utf8_percent_encode(&message, NOT_IN_MESSAGES).collect();
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert("grpc-message", message);
    }
    if fault.passes_later() {
        // gRPC's own word for Retry-After (A6, "Pushback"); in milliseconds.
        let wait = asked.retry_after.map_or(1000, |wait| wait.as_millis().clamp(1, 1 << 31) as u64);
        headers.insert("grpc-retry-pushback-ms", HeaderValue::from(wait));
    }
    headers.insert(PROXY_STATUS.clone(), proxy_status(fault));
    answer
}

const NOT_IN_MESSAGES: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');

/// `redirect`
pub fn redirect(status: StatusCode, location: HeaderValue) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::LOCATION, location);
    answer
}

/// To OPTIONS, for ourselves.
pub fn options() -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
    answer
}

/// `respond`; the body is left out for HEAD.
pub fn fixed(
    status: StatusCode,
    body: &Bytes,
    headers: &[(HeaderName, HeaderValue)],
    method: &Method,
) -> Response<Bytes> {
    let bare = *method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut answer = Response::new(if bare { Bytes::new() } else { body.clone() });
    *answer.status_mut() = status;
    for (name, value) in headers {
        answer.headers_mut().insert(name.clone(), value.clone());
    }
    answer
}

/// What is passed on.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// RFC 9209 §2: `tidegate; error=connection_timeout; next-hop="api-1"; details="app: connecting, after 3.000 s"`.
fn proxy_status(fault: &Fault) -> HeaderValue {
    let mut text = format!("tidegate; error={}", fault.proxy_error());
    if let Some((at, _)) = fault.at() {
        parameter(&mut text, "next-hop", &at.backend);
    }
    if let Some(details) = fault.details() {
        parameter(&mut text, "details", &details);
    }
    HeaderValue::try_from(text).expect("printable ASCII only")
}

/// A String of RFC 8941 §3.3.3: printable ASCII; quotes and backslashes escaped.
fn parameter(text: &mut String, name: &str, value: &str) {
    text.extend(["; ", name, "=\""]);
    for char in value.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            ' '..='~' => text.push(char),
            _ => text.push('?'),
        }
    }
    text.push('"');
}

/// A problem document (RFC 9457) for programs that accept JSON, a small page for browsers, a
/// line of text for everybody else.
fn body(fault: &Fault, asked: Asked<'_>) -> (&'static str, Bytes) {
    let accepts = |kind: &[u8]| {
        asked.accept.is_some_and(|accept| memchr::memmem::find(accept.as_bytes(), kind).is_some())
    };
    let status = fault.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let sentence = fault.sentence();
    let id = asked.request_id;
    if let (Fault::NotHeld { page: Some(page), .. }, true) = (fault, accepts(b"text/html")) {
        ("text/html; charset=utf-8", page.clone())
    } else if accepts(b"text/html") {
        let id = if id.is_empty() {
            String::new()
        } else {
            format!("<p><small>{}</small></p>", Html(id))
        };
        let page = format!(
            "<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><p>{}</p>{id}\n",
            Html(&sentence)
        );
        ("text/html; charset=utf-8", page.into())
    } else if accepts(b"json") {
        let mut problem = serde_json::json!({
            "title": title,
            "status": status.as_u16(),
            "detail": sentence,
            "error": fault.proxy_error(),
        });
        if !id.is_empty() {
            problem["request_id"] = id.into();
        }
        ("application/problem+json", problem.to_string().into())
    } else if id.is_empty() {
        ("text/plain; charset=utf-8", format!("{sentence}\n").into())
    } else {
        ("text/plain; charset=utf-8", format!("{sentence} (request {id})\n").into())
    }
}

/// Text within a page.
struct Html<'a>(&'a str);

impl std::fmt::Display for Html<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        self.0.chars().try_for_each(|char| match char {
            '<' => out.write_str("&lt;"),
            '>' => out.write_str("&gt;"),
            '&' => out.write_str("&amp;"),
            '"' => out.write_str("&quot;"),
            char => out.write_char(char),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::fault::{At, Busy, ConnectKind, Phase};
    use super::*;

    fn asked(accept: Option<&HeaderValue>) -> Asked<'_> {
        Asked { method: &Method::GET, accept, request_id: "abc", grpc: false, retry_after: None }
    }

    fn service() -> Arc<str> {
        "app".into()
    }

    #[test]
    fn status_error_and_details() {
        let none = Fault::NoBackend {
            service: service(),
            healthy: 0,
            total: 3,
            last: Some("connection refused".into()),
        };
        let at = || At {
            service: service(),
            backend: "a\"\u{e9}".into(),
            uid: 7,
            after: Duration::from_millis(3001),
        };
        let connect = |kind| Fault::Connect { at: at(), kind };
        let hop = |error: &str, details: &str| {
            format!("{error}; next-hop=\"a\\\"?\"; details=\"app: {details}\"")
        };
        for (fault, status, text) in [
            (
                none,
                503,
                "destination_unavailable; details=\"app: 0 of 3 healthy, last: connection refused\""
                    .to_owned(),
            ),
            (Fault::NoRoute, 404, "destination_not_found".to_owned()),
            (
                Fault::BadRequest("the request has no Host"),
                400,
                "http_request_error; details=\"the request has no Host\"".to_owned(),
            ),
            (Fault::BodyTooLarge, 413, "http_request_error".to_owned()),
            (Fault::UriTooLong, 414, "http_request_error".to_owned()),
            (Fault::HeadTooLarge, 431, "http_request_error".to_owned()),
            (Fault::RequestTimeout, 408, "http_request_error".to_owned()),
            (
                connect(ConnectKind::Refused),
                502,
                hop("connection_refused", "connecting, after 3.001 s"),
            ),
            (
                connect(ConnectKind::TimedOut),
                504,
                hop("connection_timeout", "connecting, after 3.001 s"),
            ),
            (
                connect(ConnectKind::Unreachable),
                502,
                hop("destination_ip_unroutable", "connecting, after 3.001 s"),
            ),
            (
                Fault::Reset { at: at() },
                502,
                hop("connection_terminated", "waiting, after 3.001 s"),
            ),
            (
                Fault::WriteTimeout { at: at() },
                504,
                hop("connection_write_timeout", "sending, after 3.001 s"),
            ),
            (
                Fault::ResponseTimeout { at: at() },
                504,
                hop("http_response_timeout", "waiting, after 3.001 s"),
            ),
            (
                Fault::RouteTimeout { at: at(), phase: Phase::Connecting },
                504,
                hop(
                    "http_response_timeout",
                    "connecting, after 3.001 s, the route's timeout is over",
                ),
            ),
            (
                Fault::BadAnswer { at: at(), why: "x" },
                502,
                hop("http_protocol_error", "waiting, after 3.001 s, x"),
            ),
        ] {
            let answer = super::fault(&fault, asked(None));
            assert_eq!(answer.status(), status, "{fault:?}");
            assert_eq!(answer.headers()["proxy-status"], format!("tidegate; error={text}"));
            assert_eq!(answer.headers().contains_key("retry-after"), status == 503, "{fault:?}");
            assert_eq!(answer.headers().contains_key("connection"), fault.closes(), "{fault:?}");
        }
    }

    #[test]
    fn the_body_is_for_who_asks() {
        for (accept, kind, text) in [
            (
                None,
                "text/plain; charset=utf-8",
                "There is nothing at this address. (request abc)\n",
            ),
            (
                Some("*/*"),
                "text/plain; charset=utf-8",
                "There is nothing at this address. (request abc)\n",
            ),
            (
                Some("application/json"),
                "application/problem+json",
                "{\"detail\":\"There is nothing at this address.\",\"error\":\"destination_not_found\",\
                 \"request_id\":\"abc\",\"status\":404,\"title\":\"Not Found\"}",
            ),
            (
                Some("text/html,application/xhtml+xml"),
                "text/html; charset=utf-8",
                "<!doctype html><meta charset=utf-8><title>Not Found</title><h1>Not Found</h1>\
                 <p>There is nothing at this address.</p><p><small>abc</small></p>\n",
            ),
        ] {
            let accept = accept.map(HeaderValue::from_static);
            let answer = fault(&Fault::NoRoute, asked(accept.as_ref()));
            assert_eq!(answer.headers()["content-type"], kind);
            assert_eq!(answer.body(), text, "{accept:?}");
        }
    }

    #[test]
    fn head_has_no_body_and_retry_after_is_whole_seconds() {
        let shed = Fault::Overloaded { service: service(), why: Busy::Full { waiting: 4 } };
        let retry_after = Some(Duration::from_millis(2100));
        let answer = fault(&shed, Asked { method: &Method::HEAD, retry_after, ..asked(None) });
        assert!(answer.body().is_empty());
        assert_eq!(answer.headers()["retry-after"], "3");
        let body = Bytes::from_static(b"ok");
        for (status, method, expected) in [
            (StatusCode::OK, Method::GET, &b"ok"[..]),
            (StatusCode::OK, Method::HEAD, b""),
            (StatusCode::NO_CONTENT, Method::GET, b""),
        ] {
            assert_eq!(fixed(status, &body, &[], &method).body(), expected);
        }
    }
}
