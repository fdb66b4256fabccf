//! The kinds of orchestrators that a configuration may name.
//!
//! `tidegate check` and the control plane ask the same registry, so a kind that an embedder
//! registered is checked like a built-in one. Building and running one is the factory's part.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config;

use super::nobody::Nobody;
use super::process::ProcessFactory;
use super::{Context, Factory, Orchestrator};

/// Factories by the name that `kind = "…"` uses.
#[derive(Clone)]
pub struct Kinds {
    factories: BTreeMap<String, Arc<dyn Factory>>,
    /// Of `none`, which is no kind that could be named among others.
    nobody: Arc<dyn Factory>,
}

/// Why a kind could not be found or registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// No factory has this name. The text names those there are.
    #[error("unknown orchestrator kind \"{name}\"; known are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The known names, separated by commas.
        known: String,
    },
    /// The name belongs to another factory, or to tidegate itself (`none`).
    #[error("the orchestrator kind \"{0}\" is already taken")]
    Taken(String),
}

impl Kinds {
    /// No kind at all.
    pub fn empty() -> Self {
        let nobody = Arc::new(|_: Context| Ok(Arc::new(Nobody) as Arc<dyn Orchestrator>));
        Self { factories: BTreeMap::new(), nobody }
    }

    /// Adds a kind.
    ///
    /// # Errors
    /// [`KindError::Taken`] if the name is in use or is `none`.
    pub fn register(&mut self, name: &str, factory: Arc<dyn Factory>) -> Result<(), KindError> {
        if name == "none" || self.factories.contains_key(name) {
            return Err(KindError::Taken(name.to_owned()));
        }
        self.factories.insert(name.to_owned(), factory);
        Ok(())
    }

    /// The factory of a kind.
    ///
    /// # Errors
    /// [`KindError::Unknown`], whose text lists the known kinds.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Factory>, KindError> {
        if name == "none" {
            return Ok(&self.nobody);
        }
        self.factories
            .get(name)
            .ok_or_else(|| KindError::Unknown { name: name.to_owned(), known: self.known() })
    }

    /// All kinds, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn Factory>)> {
        self.factories.iter().map(|(name, factory)| (name.as_str(), factory))
    }

    /// Known names for people, `none` first.
    fn known(&self) -> String {
        std::iter::once("none")
            .chain(self.factories.keys().map(String::as_str))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl config::Kinds for Kinds {
    fn names(&self) -> Vec<String> {
        self.factories.keys().cloned().collect()
    }

    fn check(&self, keys: &config::OwnKeys<'_>) -> Vec<config::Problem> {
        let context = Context {
            service: keys.service.into(),
            table: keys.table.clone(),
            state_dir: keys.state_dir.join(keys.service),
            stop_grace: keys.stop_grace,
        };
        self.get(keys.kind).map_or_else(|_| Vec::new(), |factory| factory.check(&context))
    }
}

impl Default for Kinds {
    /// The built-in kinds.
    fn default() -> Self {
        let mut kinds = Self::empty();
        kinds.factories.insert("process".to_owned(), Arc::new(ProcessFactory::default()));
        kinds
    }
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kinds").field(&self.known()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_names_the_known_ones() {
        let mut kinds = Kinds::default();
        kinds.register("custom", Arc::new(ProcessFactory::default())).expect("free name");
        let error = kinds.get("proces").err().expect("unknown").to_string();
        assert_eq!(error, "unknown orchestrator kind \"proces\"; known are: none, custom, process");
        assert!(kinds.get("custom").is_ok());
    }

    #[test]
    fn a_name_is_given_once() {
        let mut kinds = Kinds::default();
        for name in ["process", "none"] {
            let taken = kinds.register(name, Arc::new(ProcessFactory::default()));
            assert_eq!(taken, Err(KindError::Taken(name.to_owned())));
        }
    }
}
