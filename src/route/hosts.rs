//! Routes by host: exact names by hash, wildcards by walking the labels of the name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::types::{self as config, HostPattern};

use super::paths::Paths;

type Map<V> = HashMap<Box<str>, V, foldhash::fast::RandomState>;

/// The hosts of one listener. Hosts with the same routes share one table of paths.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: Map<Arc<Paths>>,
    /// `*.example.com` under `example.com`.
    wildcard: Map<Arc<Paths>>,
    /// Bytes of the longest key of `wildcard`: longer suffixes are not looked up.
    longest_wildcard: usize,
    any: Option<Arc<Paths>>,
}

impl Hosts {
    /// `indexes` are the routes of this listener, ascending.
    pub(super) fn new(routes: &[Arc<config::Route>], indexes: &[usize]) -> Self {
        let mut exact: Map<Vec<usize>> = Map::default();
        let mut wildcard: Map<Vec<usize>> = Map::default();
        let mut any = Vec::new();
        for &index in indexes {
            let hosts = &routes[index].host;
            if hosts.is_empty() {
                any.push(index);
            }
            for host in hosts {
                let on_host = match host {
                    HostPattern::Exact(name) => exact.entry(name.as_str().into()).or_default(),
                    HostPattern::Wildcard(suffix) => {
                        wildcard.entry(suffix.trim_start_matches('.').into()).or_default()
                    }
                };
                // The same host twice in one route is one.
                if on_host.last() != Some(&index) {
                    on_host.push(index);
                }
            }
        }
        let mut tables: HashMap<Vec<usize>, Arc<Paths>> = HashMap::new();
        let mut share = |indexes: Vec<usize>| {
            let table = tables
                .entry(indexes)
                .or_insert_with_key(|indexes| Arc::new(Paths::new(routes, indexes)));
            Arc::clone(table)
        };
        Self {
            longest_wildcard: wildcard.keys().map(|suffix| suffix.len()).max().unwrap_or(0),
            any: (!any.is_empty()).then(|| share(any)),
            exact: exact.into_iter().map(|(host, indexes)| (host, share(indexes))).collect(),
            wildcard: wildcard.into_iter().map(|(host, indexes)| (host, share(indexes))).collect(),
        }
    }

    /// Asks the tables that the host fits, the narrowest first, until one answers.
    #[inline]
    pub(super) fn by_precedence<T>(
        &self,
        host: Option<&str>,
        mut ask: impl FnMut(&Paths) -> Option<T>,
    ) -> Option<T> {
        if let Some(host) = host {
            if let Some(found) = self.exact.get(host).and_then(|paths| ask(paths)) {
                return Some(found);
            }
            if let Some(found) = self.by_wildcard(host, &mut ask) {
                return Some(found);
            }
        }
        self.any.as_ref().and_then(|paths| ask(paths))
    }

    fn by_wildcard<T>(&self, host: &str, ask: &mut impl FnMut(&Paths) -> Option<T>) -> Option<T> {
        if self.wildcard.is_empty() {
            return None;
        }
        // A suffix has at least one byte before its dot.
        let from = host.len().saturating_sub(self.longest_wildcard + 1).max(1);
        let tail = host.as_bytes().get(from..)?;
        memchr::memchr_iter(b'.', tail).find_map(|dot| {
            let suffix = &host[from + dot + 1..];
            self.wildcard.get(suffix).and_then(|paths| ask(paths))
        })
    }
}
