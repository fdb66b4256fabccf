//! One instance in the registry.

use std::sync::Arc;

use crate::clock::Micros;
use crate::config::types::Address;
use crate::discovery::Feed;
use crate::upstream::backend::{Backend, Source};
use crate::upstream::gate::State;

/// Who wants a backend empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainedBy {
    /// A person: it stays until undone, and is not stopped.
    Operator,
    /// The scaler: it is stopped once idle.
    Scaling,
    /// It stays broken, and another takes its place: stopped once idle, and never taken back.
    Healing,
    /// It left the configuration, or the process ends.
    Removed,
}

impl DrainedBy {
    /// As events say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Scaling => "scaling",
            Self::Healing => "healing",
            Self::Removed => "removed",
        }
    }
}

/// A drain under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    pub by: DrainedBy,
    pub since: Micros,
    /// Whether it had been ready before; otherwise the end of the drain puts it back to starting.
    pub was_ready: bool,
}

/// One instance: what is known of it, and its backend once it has an address.
#[derive(Debug)]
pub struct Entry {
    pub id: Arc<str>,
    /// `None`: no address yet.
    pub backend: Option<Arc<Backend>>,
    pub source: Source,
    /// What brought it; `None` for numbers in the file and what an orchestrator started.
    pub feed: Option<Feed>,
    /// Its feed no longer names it: it goes once nothing runs on it.
    pub leaving: bool,
    pub weight: u32,
    pub backup: bool,
    pub zone: Option<Arc<str>>,
    /// When it was started, or first heard of.
    pub ordered: Micros,
    /// It was there before us: how long it took to start is not known.
    pub adopted: bool,
    /// When it came into its state.
    pub since: Micros,
    pub drain: Option<Drain>,
    /// Its orchestrator was told to stop it, or says that it is stopping.
    pub stopping: bool,
    /// At least one check (or the look-up of its name) was concluded.
    pub checked: bool,
    /// Why the last check failed; `None` after a pass.
    pub last_error: Option<String>,
    /// Why it was ejected last, with the numbers.
    pub ejected_for: Option<String>,
}

impl Entry {
    /// One that was just heard of and is not known to be anywhere yet.
    pub(super) fn new(id: Arc<str>, source: Source, now: Micros) -> Self {
        Self {
            id,
            backend: None,
            source,
            feed: None,
            leaving: false,
            weight: 1,
            backup: false,
            zone: None,
            ordered: now,
            adopted: true,
            since: now,
            drain: None,
            stopping: false,
            checked: false,
            last_error: None,
            ejected_for: None,
        }
    }

    /// Whether an orchestrator started it, so that scaling and stopping it are our affair.
    pub fn is_orchestrated(&self) -> bool {
        self.source == Source::Orchestrator
    }

    pub fn state(&self) -> State {
        self.backend.as_ref().map_or(State::Pending, |b| b.gate.state())
    }

    pub fn address(&self) -> Option<&Address> {
        self.backend.as_ref().map(|b| &b.address)
    }

    pub fn is_ejected(&self) -> bool {
        self.backend.as_ref().is_some_and(|b| b.gate.is_ejected())
    }

    /// Ready, healthy and not ejected.
    pub fn is_available(&self) -> bool {
        self.backend.as_ref().is_some_and(|b| b.gate.is_available())
    }
}
