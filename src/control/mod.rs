//! The control plane: one runtime of two threads beside the workers. It watches, decides and
//! tells; no request ever waits for it.
//!
//! [`run`] builds the process, and `life` is what it does from its start to its end. The parts meet in [`core::Control`]:
//! `reload` takes configurations into use, `services` and `orchestrate` follow backends,
//! `scaling` decides, `drain` and `stop` end things, `handle` answers the admin API, `handover` makes way
//! for a new process.

mod added;
pub mod applied;
pub mod banner;
pub mod build;
mod certificates;
pub mod core;
mod cost;
mod discover;
pub mod drain;
mod errors;
pub mod events;
mod feeds;
mod floods;
mod growth;
pub mod handle;
pub mod handover;
mod heal;
pub mod journal;
pub mod learned;
mod life;
mod limits;
pub mod log;
pub mod managed;
mod memory;
pub mod metrics;
pub mod orchestrate;
mod outlier;
mod overload;
pub mod privileges;
mod recording;
pub mod reload;
mod retire;
mod sample;
pub mod scaling;
pub mod services;
mod session_key;
pub mod signals;
mod spells;
pub mod state_dir;
pub mod status;
pub mod stop;
pub mod systemd;
#[cfg(test)]
mod tests;
mod tls;
mod watchdog;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::admin::Server;
use crate::clock::Clock;
use crate::config::{self, Env, Loaded};
use crate::listener::given::Given;
use crate::memory::Heap;
use crate::orchestrator::kinds::Kinds;
use crate::worker::{DataPlane, Params};

use self::core::Control;
use applied::Applied;
use handover::give::Giver;
use handover::program::Program;
use handover::take::Predecessor;
use reload::Reloader;
use state_dir::StateDir;

/// Threads of the control runtime: one may be busy with a large reload.
const THREADS: usize = 2;
/// Bad usage or configuration.
const BAD_CONFIGURATION: u8 = 2;

/// Runs until a signal ends it. Everything that goes wrong is said on standard error.
pub fn run(path: &Path, kinds: Kinds, heap: Heap) -> ExitCode {
    let (predecessor, given) = match passed() {
        Ok(passed) => passed,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let loaded = match config::load(path, &kinds, &Env::of_process()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let report = config::report(&problems);
            eprint!("{report}");
            if let Some(predecessor) = predecessor {
                predecessor.tell_failure(report.trim_end());
            }
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let text = log::start(&loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(warning) = privileges::raise_file_limit(&loaded.config) {
        tracing::warn!("{warning}");
    }
    let result = start_and_serve(path, (kinds, heap), loaded, text, predecessor.as_ref(), given);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Together with other lines of the log, but without their form: it may be all there is.
            eprintln!("tidegate: {error}");
            if let Some(predecessor) = predecessor {
                // It may know already; the first word counts.
                predecessor.tell_failure(&error.to_string());
            }
            ExitCode::FAILURE
        }
    }
}

/// The process before this one, if it started this one to take over, and the sockets that were passed.
fn passed() -> Result<(Option<Predecessor>, Given), Fatal> {
    match Predecessor::of_process()? {
        Some((predecessor, given)) => Ok((Some(predecessor), given)),
        None => Ok((None, Given::by_manager()?)),
    }
}

/// Anything that ends the process.
type Fatal = Box<dyn std::error::Error + Send + Sync>;

fn start_and_serve(
    path: &Path,
    (kinds, heap): (Kinds, Heap),
    loaded: Loaded,
    text: bool,
    predecessor: Option<&Predecessor>,
    mut given: Given,
) -> Result<(), Fatal> {
    let program = Program::of_process()?;
    let folder = &loaded.config.runtime.state_dir;
    let state_dir = match predecessor {
        Some(predecessor) => predecessor.state_dir(folder, &mut given)?,
        None => StateDir::lock(folder)?,
    };
    let scribes = journal::Scribes::start(state_dir.path())?;
    let admin = Server::bind_or_take(&loaded.config.admin, &mut |name| given.handed(name).pop())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    let clock = Clock::real();
    let workers = loaded.config.runtime.workers;
    let plane = DataPlane::start(Params { workers, clock: clock.clone(), given, heap })?;
    let mut tls = crate::tls::Loader::default();
    if let Some(predecessor) = predecessor {
        predecessor.give_tickets(&mut tls);
    }
    let reloader = Reloader {
        kinds,
        tls,
        scribes,
        access: Some(admin.access()),
        tasks: services::Tasks::default(),
    };
    let applied = Applied::new(path.to_owned(), loaded);
    let control = Control::new(clock, plane, applied, reloader);
    let giver = Giver { program, admin: admin.spare()?, lock: state_dir.spare()? };
    let start = life::Start { admin, state_dir, giver, text, predecessor };
    let result = runtime.block_on(life::serve(control, start));
    // What is still running (a hanging call of an orchestrator) does not hold the end up.
    runtime.shutdown_background();
    result
}

/// A lock whose holder panicked still guards whole values: every change under one is small and
/// made in an order that leaves it usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
