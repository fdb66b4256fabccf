//! Routing: host → path → method and headers, decided once per request without a lock or an allocation.
//!
//! The precedence is written at the head of the routes in the reference configuration. This
//! file ties the parts together: `hosts` narrows by host, `paths` by path, and what is left
//! are a few routes whose methods and headers are compared one after the other. Making a path
//! comparable is [`path`]'s; changing it is [`rewrite`]'s and [`redirect`]'s. Choosing among the services of a
//! route is [`split`]'s.

mod hosts;
pub mod path;
mod paths;
pub mod redirect;
pub mod rewrite;
pub mod split;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::types as config;

use hosts::Hosts;

/// All routes of a configuration, arranged for look-up.
#[derive(Debug)]
pub struct Router {
    /// By listener index. Listeners with the same routes share one table.
    listeners: Vec<Arc<Hosts>>,
    /// For connections of a listener that was removed: the routes of every listener.
    elsewhere: Arc<Hosts>,
    /// By route index: what is compared once host and path fit.
    conditions: Conditions,
    /// Fields that any of them looks at.
    reads: Box<[HeaderName]>,
}

/// Methods and headers of every route.
#[derive(Debug)]
struct Conditions(Vec<Condition>);

#[derive(Debug)]
struct Condition {
    /// Empty = all.
    methods: Box<[Method]>,
    headers: Box<[(HeaderName, HeaderValue)]>,
}

impl Router {
    /// `listeners` are the names of all listeners in snapshot order.
    pub fn new(routes: &[Arc<config::Route>], listeners: &[Arc<str>]) -> Self {
        let conditions = Conditions(routes.iter().map(|route| Condition::new(route)).collect());
        let mut tables: HashMap<Vec<usize>, Arc<Hosts>> = HashMap::new();
        let mut table = |name: Option<&Arc<str>>| {
            let here = |route: &config::Route| {
                route.listeners.is_empty() || name.is_some_and(|n| route.listeners.contains(n))
            };
            let indexes: Vec<usize> =
                (0..routes.len()).filter(|&index| here(&routes[index])).collect();
            let table = tables
                .entry(indexes)
                .or_insert_with_key(|indexes| Arc::new(Hosts::new(routes, indexes)));
            Arc::clone(table)
        };
        let elsewhere = table(None);
        let listeners = listeners.iter().map(|name| table(Some(name))).collect();
        let reads = routes.iter().flat_map(|route| &route.headers).map(|(name, _)| name.clone());
        let mut reads: Vec<_> = reads.collect();
        reads.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        reads.dedup();
        Self { listeners, elsewhere, conditions, reads: reads.into() }
    }

    /// Whether a route has a condition about that field.
    #[inline]
    pub fn reads(&self, name: &HeaderName) -> bool {
        self.reads.contains(name)
    }

    /// Index (into `routes` as given to [`Router::new`]) of the route that answers, by the
    /// precedence at the head of the routes in the reference configuration.
    /// A `listener` that is not among them has the routes of every listener.
    /// `host` is lower case without port; `path` is normalised. A route for GET does not
    /// answer HEAD unless it says so. `*` (`OPTIONS *`) is answered by routes of the path `/`.
    pub fn find(
        &self,
        listener: usize,
        host: Option<&str>,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<usize> {
        let fits = |route| self.conditions.fit(route, method, headers);
        let hosts = self.listeners.get(listener).unwrap_or(&self.elsewhere);
        hosts.by_precedence(host, |paths| paths.find(path, &fits))
    }
}

impl Conditions {
    #[inline]
    fn fit(&self, route: u32, method: &Method, headers: &HeaderMap) -> bool {
        let condition = &self.0[route as usize];
        (condition.methods.is_empty() || condition.methods.contains(method))
            && condition
                .headers
                .iter()
                .all(|(name, value)| headers.get_all(name).iter().any(|sent| sent == value))
    }
}

impl Condition {
    fn new(route: &config::Route) -> Self {
        Self {
            methods: route.methods.clone().into_boxed_slice(),
            headers: route.headers.clone().into_boxed_slice(),
        }
    }
}

/// Order among routes of the same host and path: methods named first, then more headers,
/// then the order of the file.
fn specificity(route: &config::Route) -> impl Ord + use<> {
    std::cmp::Reverse((!route.methods.is_empty(), route.headers.len()))
}
