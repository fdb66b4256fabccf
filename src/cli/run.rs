//! `tidegate run`: runs until a signal ends it.

use std::process::ExitCode;

use crate::control;
use crate::memory::Heap;
use crate::orchestrator::kinds::Kinds;

use super::{ConfigFile, USAGE};

/// Runs the proxy.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  tidegate run -c conf/quickstart.toml\n\n\
    Signals: TERM and INT drain and stop, a second one ends at once; HUP reloads; USR1 reopens logs;\n\
    USR2 hands over to the binary that is now at this path: it gets the sockets and the backends,\n\
    and this process finishes what runs.")]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigFile,
}

/// Runs it; the exit code is that of the process.
pub fn run(args: &Args, kinds: Kinds, heap: Heap) -> ExitCode {
    match args.config.path() {
        Ok(path) => control::run(&path, kinds, heap),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(USAGE)
        }
    }
}
