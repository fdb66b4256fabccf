//! Routing: host → path → method and headers, decided once per request without a lock or an allocation.

pub mod path;
pub mod redirect;
pub mod rewrite;

use std::sync::Arc;

use crate::config::types as config;

/// All routes of a configuration, arranged for look-up.
#[derive(Debug)]
pub struct Router {}

impl Router {
    /// `listeners` are the names of all listeners in snapshot order.
    pub fn new(_routes: &[Arc<config::Route>], _listeners: &[Arc<str>]) -> Self {
        Self {}
    }

    /// Index (into `routes` as given to [`Router::new`]) of the route that answers, by the
    /// precedence at the head of the routes in the reference configuration.
    /// `host` is lower case without port; `path` is normalised.
    pub fn find(
        &self,
        _listener: usize,
        _host: Option<&str>,
        _path: &str,
        _method: &http::Method,
        _headers: &http::HeaderMap,
    ) -> Option<usize> {
        None
    }
}
