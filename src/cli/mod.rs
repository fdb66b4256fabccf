//! The command line: what can be said, and who does it.
//!
//! One file a subcommand, each with its arguments (`Args`) and a `run` that prints and returns
//! the exit code: 0 fine, 1 failed, 2 bad usage or configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::memory::Heap;
use crate::orchestrator::kinds::Kinds;

pub mod check;
pub mod client;
mod cost;
pub mod drain;
pub mod explain;
pub mod load;
pub mod origin;
pub mod reload;
pub mod run;
pub mod scale;
pub mod simulate;
pub mod status;
mod table;
mod target;
#[cfg(test)]
mod tests;

/// Bad usage or configuration.
pub const USAGE: u8 = 2;

/// Looked for in this order when no `-c` is given.
const DEFAULT_FILES: [&str; 2] = ["./tidegate.toml", "/etc/tidegate/tidegate.toml"];

/// A layer-7 load-balancing reverse proxy with a built-in scaler.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    after_help = "Example:\n  tidegate run -c conf/quickstart.toml"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// Every subcommand; its arguments are in its own file.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the proxy and its backends; ends in order on TERM or INT
    Run(run::Args),
    /// Validate a configuration and print every problem in it
    Check(check::Args),
    /// Show services, backends, traffic and scaling
    Status(status::Args),
    /// Tell why a scaling decision was taken
    Explain(explain::Args),
    /// Pin the size of a service, pause its scaling, or end either
    Scale(scale::Args),
    /// Send a backend no new requests
    #[command(after_help = "Example:\n  tidegate drain app 127.0.0.1:20000")]
    Drain(drain::Args),
    /// End a drain
    #[command(after_help = "Example:\n  tidegate undrain app 127.0.0.1:20000")]
    Undrain(drain::Args),
    /// Have the configuration read again
    Reload(reload::Args),
    Simulate(Box<simulate::Args>),
    Load(Box<load::Args>),
    Origin(origin::Args),
}

/// `-c FILE`, for subcommands that read a configuration.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigFile {
    /// The configuration [default: ./tidegate.toml, then /etc/tidegate/tidegate.toml]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl ConfigFile {
    /// The file that was named, else the first default one that exists.
    ///
    /// # Errors
    /// A message for people, when there is none.
    pub fn path(&self) -> Result<PathBuf, String> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(
                || {
                    format!(
                        "no configuration: neither {} exists; name one with -c FILE",
                        DEFAULT_FILES.join(" nor ")
                    )
                },
            ),
        }
    }
}

impl Cli {
    /// Does what was asked for, with the program's allocator.
    pub fn run(self, heap: Heap) -> ExitCode {
        match self.command {
            Command::Run(args) => run::run(&args, Kinds::default(), heap),
            Command::Check(args) => check::run(&args, &Kinds::default()),
            Command::Status(args) => status::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Scale(args) => scale::run(&args),
            Command::Drain(args) => drain::run(&args),
            Command::Undrain(args) => drain::run_undrain(&args),
            Command::Reload(args) => reload::run(&args),
            Command::Simulate(args) => simulate::run(&args),
            Command::Load(args) => load::run(*args),
            Command::Origin(args) => origin::run(args),
        }
    }
}
