//! tidegate as a library: the same program, with orchestrators of one's own.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::memory::Heap;
use crate::orchestrator::Factory;
use crate::orchestrator::kinds::{KindError, Kinds};

/// Registers what an embedder adds, then runs.
///
/// ```no_run
/// # struct Mine;
/// # use tidegate::orchestrator::*;
/// # impl Factory for Mine {
/// #     fn build(&self, _: Context) -> Result<std::sync::Arc<dyn Orchestrator>, OrchestratorError> {
/// #         Err(OrchestratorError::Permanent("not here".into()))
/// #     }
/// # }
/// fn main() -> std::process::ExitCode {
///     match tidegate::Builder::new().orchestrator("mine", Mine) {
///         Ok(builder) => builder.run("tidegate.toml"),
///         Err(error) => panic!("{error}"),
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    kinds: Kinds,
    heap: Heap,
}

impl Builder {
    /// With the built-in kinds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a kind for `[service.NAME.orchestrator] kind = "…"`.
    ///
    /// # Errors
    /// The name is taken.
    pub fn orchestrator(mut self, kind: &str, factory: impl Factory) -> Result<Self, KindError> {
        self.kinds.register(kind, Arc::new(factory))?;
        Ok(self)
    }

    /// How the program's allocator gives memory back, for `runtime.max_memory`. Without it one that keeps what was
    /// freed looks fuller than it is.
    pub fn heap(mut self, heap: Heap) -> Self {
        self.heap = heap;
        self
    }

    /// Runs until a signal ends it, like `tidegate run -c config`; call it from `main`.
    /// 0: it was asked to end; 1: it failed; 2: the configuration is wrong.
    pub fn run(self, config: impl AsRef<Path>) -> ExitCode {
        crate::control::run(config.as_ref(), self.kinds, self.heap)
    }
}
