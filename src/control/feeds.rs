//! How every source of backends does: for status, and for telling when a service is ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::admin::view;
use crate::config::types as config;
use crate::discovery::{Dns, Feed, Origin};
use crate::registry::{Entry, Pool};

use super::core::Control;
use super::lock;

/// A feed of a service.
pub type Key = (Arc<str>, Feed);

/// How every feed does, for status and readiness.
#[derive(Default)]
pub struct Feeds {
    states: Mutex<BTreeMap<Key, FeedState>>,
    dns: Mutex<Option<(config::Dns, Arc<Dns>)>>,
}

struct FeedState {
    kind: &'static str,
    name: String,
    asked: bool,
    answered_at: Option<SystemTime>,
    error: Option<String>,
}

impl Feeds {
    /// Whether every feed of a service answered or failed once.
    pub fn all_asked(&self, service: &str) -> bool {
        lock(&self.states).iter().all(|((name, _), state)| **name != *service || state.asked)
    }

    /// Why a service may have fewer backends than it should.
    pub fn error(&self, service: &str) -> Option<String> {
        let states = lock(&self.states);
        let mut of = states.iter().filter(|((name, _), _)| **name == *service);
        of.find_map(|(_, state)| state.error.clone())
    }

    /// Asks as `[dns]` says; the same one as long as that is the same.
    pub(super) fn dns(&self, config: &config::Dns) -> Arc<Dns> {
        let mut dns = lock(&self.dns);
        match &*dns {
            Some((old, dns)) if old == config => dns.clone(),
            _ => {
                let new = Arc::new(Dns::new(config.servers.clone()));
                *dns = Some((config.clone(), new.clone()));
                new
            }
        }
    }

    /// Forgets those that are not followed any more.
    pub(super) fn keep(&self, is_followed: impl Fn(&Key) -> bool) {
        lock(&self.states).retain(|key, _| is_followed(key));
    }

    /// One more is followed; nothing is known of it yet.
    pub(super) fn begin(&self, key: Key, origin: &Origin) {
        lock(&self.states).insert(key, FeedState::new(origin));
    }

    /// Notes how a feed does; true when that is news.
    pub(super) fn note(&self, key: &Key, answered: bool, error: Option<String>) -> bool {
        let mut states = lock(&self.states);
        // Not followed any more: this was its last word.
        let Some(state) = states.get_mut(key) else { return false };
        state.asked = true;
        if answered {
            state.answered_at = Some(SystemTime::now());
        }
        let news = state.error != error;
        state.error = error;
        news
    }
}

impl FeedState {
    fn new(origin: &Origin) -> Self {
        let (kind, name) = (origin.kind(), origin.name());
        Self { kind, name, asked: false, answered_at: None, error: None }
    }
}

impl Control {
    /// The sources of a service's backends, for status.
    pub(super) fn feeds_view(&self, service: &str, pool: &Pool) -> Vec<view::Discovery> {
        let count = |feed: &Feed| {
            let of =
                |e: &&Entry| e.feed.as_ref() == Some(feed) && e.backend.is_some() && !e.leaving;
            pool.entries().filter(of).count() as u64
        };
        let states = lock(&self.feeds.states);
        let of = states.iter().filter(|((name, _), _)| **name == *service);
        let mut feeds: Vec<_> = of
            .map(|((_, feed), state)| view::Discovery {
                source: state.kind.to_owned(),
                name: state.name.clone(),
                backends: count(feed),
                answered_at: state.answered_at.map(Into::into),
                error: state.error.clone(),
            })
            .collect();
        let added = count(&Feed::Admin);
        if added > 0 {
            feeds.push(view::Discovery {
                source: "admin".to_owned(),
                name: String::new(),
                backends: added,
                answered_at: None,
                error: None,
            });
        }
        feeds
    }
}
