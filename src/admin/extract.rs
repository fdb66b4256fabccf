//! Extractors whose errors are problems: path parameters, query and JSON body.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::guard::{Peer, Who};
use super::problem::Problem;

/// Most bytes of a request body.
const MAX_BODY: usize = 64 * 1024;
/// A request body must be there by then.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Path parameters, percent-decoded.
pub struct Params<T>(pub T);

/// The query of a request. Structs deny unknown fields, so that a typo is an error.
pub struct Arguments<T>(pub T);

/// A JSON body.
pub struct Json<T>(pub T);

/// The body of a change that has nothing to say: empty or any JSON.
pub struct NoBody;

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(params)) => Ok(Self(params)),
            Err(rejection) => Err(Problem::bad_request(rejection.body_text())),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Arguments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        arguments(&parts.uri).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = body(request).await?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            Problem::bad_request(format!("the body is not what it should be: {error}"))
        })
    }
}

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = body(request).await?;
        if body.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
            return Ok(Self);
        }
        Err(Problem::bad_request("the body is not JSON; it may be empty"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let who = parts.extensions.get::<Self>().cloned();
        Ok(who.unwrap_or(Self { peer: Peer::Unix { uid: None, pid: None }, name: None }))
    }
}

/// A whole number within a range, or what is wrong with it.
pub fn number(
    name: &str,
    text: &str,
    range: std::ops::RangeInclusive<usize>,
) -> Result<usize, Problem> {
    text.parse().ok().filter(|n| range.contains(n)).ok_or_else(|| {
        let (from, to) = range.into_inner();
        Problem::bad_request(format!(
            "{name} must be a whole number from {from} to {to}, not {text:?}"
        ))
    })
}

/// Whether the client asks for this media type by name.
pub fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type))
                && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0"))
        })
    })
}

fn arguments<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    match Query::try_from_uri(uri) {
        Ok(Query(arguments)) => Ok(arguments),
        Err(rejection) => Err(Problem::bad_request(rejection.body_text())),
    }
}

async fn body(request: Request) -> Result<bytes::Bytes, Problem> {
    let limited = Limited::new(request.into_body(), MAX_BODY);
    match tokio::time::timeout(BODY_TIMEOUT, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {MAX_BODY} bytes"),
        )),
        Ok(Err(error)) => Err(Problem::bad_request(format!("the body could not be read: {error}"))),
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come within 10 s"))
        }
    }
}
