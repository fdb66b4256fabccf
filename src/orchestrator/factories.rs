//! The orchestrator kinds that are registered, by name.
//!
//! What `kind` in a configuration may say. `check` and `run` share it, so that a kind that one
//! of them knows is known to the other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Context, Factory};
use crate::config::{Kinds, OwnKeys, Problem};

/// Factories by kind.
#[derive(Clone, Default)]
pub struct Factories(BTreeMap<String, Arc<dyn Factory>>);

impl Factories {
    /// The kinds that tidegate brings.
    pub fn built_in() -> Self {
        Self::default()
    }

    /// Adds a kind, or replaces the one of that name.
    pub fn register(&mut self, kind: impl Into<String>, factory: Arc<dyn Factory>) {
        self.0.insert(kind.into(), factory);
    }

    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Factory>> {
        self.0.get(kind)
    }
}

impl Kinds for Factories {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn check(&self, keys: &OwnKeys<'_>) -> Vec<Problem> {
        let context = Context {
            service: keys.service.into(),
            table: keys.table.clone(),
            state_dir: keys.state_dir.join("services").join(keys.service),
            stop_grace: keys.stop_grace,
        };
        self.get(keys.kind).map_or_else(Vec::new, |factory| factory.check(&context))
    }
}

impl fmt::Debug for Factories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
