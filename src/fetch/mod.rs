//! One HTTP request of our own, for what is asked of or told to other systems: metrics, hooks.
//!
//! Each has its connection, a deadline for everything and a bound on the answer, so that no system outside can
//! hold anything up. HTTP/1.1, over TLS as the system believes certificates. Nothing is followed: a redirect is
//! an answer like others. How often to ask again is left to the callers.

mod connect;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;

use crate::base64;
use crate::config::types::Url;

pub use connect::{Connection, connect};

/// What is sent.
#[derive(Debug, Clone)]
pub struct Ask {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What it may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For all of it: the name, the connection, the answer.
    pub timeout: Duration,
    /// Bytes of the answer's body.
    pub bytes: usize,
}

/// What came back, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why nothing came back. The text names the host and never a path or a password.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0}: no answer within {1:?}")]
    Timeout(String, Duration),
    #[error("{0}: {1}")]
    Connect(String, std::io::Error),
    #[error("{0}: no TLS: {1}")]
    Tls(String, String),
    #[error("{0}: {1}")]
    Http(String, String),
    #[error("{0}: the answer has more than {1} bytes")]
    TooLarge(String, usize),
}

impl Ask {
    /// A GET.
    pub fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// Sends it and reads all of the answer.
///
/// # Errors
/// There is no whole answer within the limits.
pub async fn fetch(ask: Ask, limits: Limits) -> Result<Answer, FetchError> {
    let url = ask.url.to_string();
    match tokio::time::timeout(limits.timeout, exchange(ask, limits.bytes)).await {
        Ok(result) => result,
        Err(_) => Err(FetchError::Timeout(url, limits.timeout)),
    }
}

async fn exchange(ask: Ask, most: usize) -> Result<Answer, FetchError> {
    let url = ask.url.clone();
    let bad = |error: &dyn std::fmt::Display| FetchError::Http(url.to_string(), error.to_string());
    let stream = connect::connect(&url).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| bad(&e))?;
    let request = request(ask).map_err(|e| bad(&e))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|e| bad(&e))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, most).collect().await.map_err(|error| match error
            .downcast_ref::<LengthLimitError>(
        ) {
            Some(_) => FetchError::TooLarge(url.to_string(), most),
            None => bad(&error),
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    // Both in this task: when it is dropped, the connection is closed.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let mut over = false;
    std::future::poll_fn(|cx| {
        if !over {
            // How it failed is told by the answer.
            over = connection.as_mut().poll(cx).is_ready();
        }
        answer.as_mut().poll(cx)
    })
    .await
}

fn request(ask: Ask) -> Result<Request<Full<Bytes>>, http::Error> {
    let Ask { method, url, headers, body } = ask;
    let mut request = Request::builder().method(method).uri(&url.path).body(Full::new(body))?;
    let fields = request.headers_mut();
    *fields = headers;
    fields.insert(header::HOST, HeaderValue::try_from(url.authority())?);
    let agent = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
    fields.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    if let Some(user) = &url.user {
        // RFC 7617
        let both = base64::encode(format!("{}:{}", user.name, user.password).as_bytes());
        let mut value = HeaderValue::try_from(format!("Basic {both}"))?;
        value.set_sensitive(true);
        fields.insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}
