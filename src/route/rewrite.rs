//! `rewrite`: the request target that a backend gets.

use http::uri::PathAndQuery;

use crate::config::types as config;

use super::path::PathError;

/// The target for the backend. `normalised` is what the route was matched with; the query is kept.
pub fn rewrite(
    _rule: &config::Rewrite,
    original: &PathAndQuery,
    _normalised: &str,
) -> Result<PathAndQuery, PathError> {
    Ok(original.clone())
}
