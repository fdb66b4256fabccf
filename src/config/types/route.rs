//! `[[route]]`: where it goes.

use std::sync::Arc;
use std::time::Duration;

use super::limits::{Access, RateLimit};

/// `[[route]]`
#[derive(Debug, Clone)]
pub struct Route {
    pub name: Arc<str>,
    /// Names of listeners; empty = all.
    pub listeners: Vec<Arc<str>>,
    /// Lower case, without port; empty = any.
    pub host: Vec<HostPattern>,
    pub path: PathPattern,
    /// Empty = all.
    pub methods: Vec<http::Method>,
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    pub action: RouteAction,
    /// The service that gets a copy of each request.
    pub mirror: Option<Arc<str>>,
    /// The whole exchange, all tries.
    pub timeout: Option<Duration>,
    /// Bytes; `None` = no limit.
    pub max_body: Option<u64>,
    /// Bytes a second of each body, of requests and of answers; `None` = no limit.
    pub rate_bytes: Option<u64>,
    /// Who goes first when capacity is short.
    pub priority: Priority,
    pub rewrite: Option<Rewrite>,
    pub headers_in: HeaderRules,
    pub headers_out: HeaderRules,
    pub access: Access,
    /// Several may apply.
    pub rate_limits: Vec<RateLimit>,
    /// Requests in flight; `None` = no limit.
    pub concurrency_limit: Option<u32>,
}

/// Who goes first when capacity is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    Critical,
    Normal,
    Sheddable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    Exact(String),
    /// `*.example.com`, kept as `.example.com`: one or more labels before it.
    Wildcard(String),
}

#[derive(Debug, Clone)]
pub enum PathPattern {
    Exact(String),
    /// Ends at a segment: `/v1/` matches `/v1` and `/v1/x`, not `/v1x`.
    Prefix(String),
    Regex(regex::Regex),
}

#[derive(Debug, Clone)]
pub enum RouteAction {
    Service(Arc<str>),
    /// At random by weight; at least one is above 0.
    Split(Vec<Share>),
    Redirect {
        /// `{host}`, `{path}` and `{query}` are replaced; `{path}` carries the query unless `{query}` is used.
        to: String,
        status: http::StatusCode,
    },
    Respond {
        status: http::StatusCode,
        body: bytes::Bytes,
        headers: Vec<(http::HeaderName, http::HeaderValue)>,
    },
}

/// One of `split`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub service: Arc<str>,
    /// 0..=65535
    pub weight: u32,
}

impl RouteAction {
    /// The services that requests may go to, with their weights; none for routes that answer themselves.
    pub fn services(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        let (one, many) = match self {
            Self::Service(name) => (Some((name, 1)), &[][..]),
            Self::Split(shares) => (None, &shares[..]),
            Self::Redirect { .. } | Self::Respond { .. } => (None, &[][..]),
        };
        one.into_iter().chain(many.iter().map(|share| (&share.service, share.weight)))
    }
}

/// `rewrite = { strip_prefix, add_prefix, regex, to }`
#[derive(Debug, Clone)]
pub struct Rewrite {
    pub strip_prefix: String,
    pub add_prefix: String,
    pub regex: Option<(regex::Regex, String)>,
}

/// `[route.headers_in]` and `[route.headers_out]`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeaderRules {
    pub set: Vec<(http::HeaderName, http::HeaderValue)>,
    pub remove: Vec<http::HeaderName>,
}
