//! `tidegate check`: says everything that is wrong with a configuration, or shows what it means.
//!
//! Starts nothing and binds nothing; what it accepts, `run` and a reload accept.

use std::io::Write;
use std::process::ExitCode;

use crate::config::{self, Env, Kinds};

use super::{ConfigFile, USAGE};

/// Checks a configuration and prints every mistake in it.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate check -c conf/quickstart.toml\n  tidegate check -c conf/quickstart.toml --print"
)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print the effective configuration with the source of each value
    #[arg(long)]
    pub print: bool,
}

/// Prints problems to standard error and the effective configuration to standard output.
pub fn run(args: &Args, kinds: &dyn Kinds) -> ExitCode {
    let path = match args.config.path() {
        Ok(path) => path,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(USAGE);
        }
    };
    match config::load(&path, kinds, &Env::of_process()) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning} (warning)");
            }
            let text = match args.print {
                true => loaded.effective.to_toml(),
                false => format!("{}: fine\n", path.display()),
            };
            // A closed pipe (`| head`) is no failure of ours.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprint!("{}", config::report(&problems));
            ExitCode::FAILURE
        }
    }
}
