//! Numbers over HTTP: a JSON document by pointer, and Prometheus' instant queries.

use std::time::Duration;

use http::HeaderValue;
use http::header::ACCEPT;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::config::types::Url;
use crate::fetch::{Ask, Limits, fetch};

use super::{Reading, SignalError};

/// Longest document.
const LIMIT: usize = 1024 * 1024;

/// The number at a JSON pointer; numbers in strings count.
pub async fn json(
    at: &Url,
    pointer: &str,
    age_pointer: Option<&str>,
    timeout: Duration,
) -> Result<Reading, SignalError> {
    let document = get(at, timeout).await?;
    let number = |pointer: &str| {
        document.pointer(pointer).and_then(number).ok_or_else(|| {
            SignalError::NoNumber(format!("there is no number at {pointer:?} of the document"))
        })
    };
    Ok(Reading { value: number(pointer)?, oldest: age_pointer.map(number).transpose()? })
}

/// The one number that a query gives.
///
/// Source: Prometheus' HTTP API, "Instant queries".
pub async fn prometheus(at: &Url, query: &str, timeout: Duration) -> Result<Reading, SignalError> {
    let base = at.path.trim_end_matches('/');
    let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
    let url = Url { path: format!("{base}/api/v1/query?query={query}"), ..at.clone() };
    let answer = get(&url, timeout).await?;
    if answer["status"] != "success" {
        let error = answer["error"].as_str().unwrap_or("no success");
        return Err(SignalError::Prometheus(error.to_owned()));
    }
    let data = &answer["data"];
    let sample = match (data["resultType"].as_str(), data["result"].as_array()) {
        (Some("scalar"), Some(sample)) => sample.get(1),
        (Some("vector"), Some(series)) => match series.len() {
            0 => return Err(SignalError::Prometheus("the query gives no series".to_owned())),
            1 => series[0]["value"].get(1),
            n => {
                let error =
                    format!("the query gives {n} series; write one that gives a single one");
                return Err(SignalError::Prometheus(error));
            }
        },
        (kind, _) => {
            let kind = kind.unwrap_or("nothing");
            return Err(SignalError::Prometheus(format!("the query gives {kind}, not a number")));
        }
    };
    let value = sample.and_then(number);
    let value =
        value.ok_or_else(|| SignalError::Prometheus("the value is no number".to_owned()))?;
    Ok(Reading { value, oldest: None })
}

/// Finite ones only: NaN is what a division of nothing by nothing gives.
fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    number.filter(|number| number.is_finite())
}

async fn get(url: &Url, timeout: Duration) -> Result<Value, SignalError> {
    let mut ask = Ask::get(url.clone());
    ask.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let answer = fetch(ask, Limits { timeout, bytes: LIMIT }).await;
    let answer = answer.map_err(|error| SignalError::Fetch(Box::new(error)))?;
    match (answer.status.as_u16(), serde_json::from_slice(&answer.body)) {
        (200, document) => Ok(document?),
        // An error of Prometheus is in the body of a 400.
        (_, Ok(document)) if is_error(&document) => Ok(document),
        (status, _) => Err(SignalError::Status(status)),
    }
}

fn is_error(document: &Value) -> bool {
    document["status"] == "error" && document["error"].is_string()
}
