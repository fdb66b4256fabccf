//! What clients are told of rate limits: `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-10, structured fields).

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::types::RateLimit;

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static NOW: HeaderName = HeaderName::from_static("ratelimit");

/// The fields of one answer.
#[derive(Debug)]
pub struct Fields {
    policy: HeaderValue,
    now: HeaderValue,
}

/// Where one limit stands.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'l> {
    pub name: &'l str,
    /// Requests that would pass at once.
    pub remaining: u32,
    /// Until all of them are there again, or one of them if there are none.
    pub reset: Duration,
}

impl Fields {
    pub fn new<'l>(policy: &HeaderValue, limits: impl Iterator<Item = Standing<'l>>) -> Self {
        let mut text = String::with_capacity(48);
        for Standing { name, remaining, reset } in limits {
            let separator = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{separator}\"{name}\";r={remaining};t={}", seconds(reset));
        }
        Self { policy: policy.clone(), now: value(text) }
    }

    /// Puts them next to those of a backend that has limits of its own.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.append(POLICY.clone(), self.policy);
        headers.append(NOW.clone(), self.now);
    }
}

/// What is the same in every answer: so many requests (`q`) in so many seconds (`w`).
pub fn policy<'l>(limits: impl Iterator<Item = &'l RateLimit>) -> HeaderValue {
    let policies: Vec<_> = limits
        .map(|limit| {
            let (name, rate) = (&limit.name, limit.rate);
            format!("\"{name}\";q={};w={}", rate.count, rate.per.as_secs())
        })
        .collect();
    value(policies.join(", "))
}

/// Whole seconds, rounded up.
pub fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn value(text: String) -> HeaderValue {
    // Names are checked by the configuration; digits are what they are.
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}
