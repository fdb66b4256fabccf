//! `redirect`: the Location that a client is sent to.

use http::HeaderValue;

/// The value of Location for `to`, with `{host}`, `{path}` and `{query}` replaced.
pub fn location(_to: &str, _host: &str, _path: &str, _query: Option<&str>) -> Option<HeaderValue> {
    None
}
