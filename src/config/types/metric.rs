//! `[metric.NAME]`: signals from elsewhere.

use std::sync::Arc;
use std::time::Duration;

use super::Url;

/// `[metric.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalMetric {
    pub name: Arc<str>,
    pub source: MetricSource,
    pub interval: Duration,
    pub timeout: Duration,
    /// A value older than this is none.
    pub stale_after: Duration,
}

/// Where the number is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricSource {
    /// The length of a list.
    RedisList { at: Url, database: u32, key: String },
    /// An instant query that gives one number. The path is that of the server's API.
    Prometheus { at: Url, query: String },
    /// A number in a JSON document, by JSON pointer (RFC 6901).
    HttpJson {
        at: Url,
        pointer: String,
        /// The age of the oldest job in seconds, in the same document.
        age_pointer: Option<String>,
    },
}
