//! The control plane: one runtime of two threads beside the workers. It watches, decides and
//! tells; no request ever waits for it.
//!
//! [`run`] is the life of the process, top to bottom. The parts meet in [`core::Control`]:
//! `reload` takes configurations into use, `services` and `orchestrate` follow backends,
//! `scaling` decides, `drain` and `stop` end things, `handle` answers the admin API.

mod added;
pub mod applied;
pub mod banner;
pub mod build;
pub mod core;
mod discover;
pub mod drain;
mod errors;
pub mod events;
mod feeds;
mod floods;
pub mod handle;
pub mod journal;
pub mod log;
pub mod managed;
pub mod metrics;
pub mod orchestrate;
mod outlier;
pub mod privileges;
pub mod reload;
mod retire;
mod sample;
pub mod scaling;
pub mod services;
mod session_key;
pub mod signals;
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::admin::Server;
use crate::clock::Clock;
use crate::config::watch::Watch;
use crate::config::{self, Env, Loaded};
use crate::listener::given::Given;
use crate::orchestrator::kinds::Kinds;
use crate::worker::{DataPlane, Params};

use self::core::Control;
use applied::Applied;
use handle::Handle;
use reload::Reloader;
use signals::{Signal, Signals};
use state_dir::StateDir;

/// Threads of the control runtime: one may be busy with a large reload.
const THREADS: usize = 2;
/// How often traffic is measured and scaling looked at.
const TICK: Duration = Duration::from_secs(1);

/// Bad usage or configuration.
const BAD_CONFIGURATION: u8 = 2;

/// Runs until a signal ends it. Everything that goes wrong is said on standard error.
pub fn run(path: &Path, kinds: Kinds) -> ExitCode {
    let given = match Given::by_manager() {
        Ok(given) => given,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let loaded = match config::load(path, &kinds, &Env::of_process()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprint!("{}", config::report(&problems));
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
    match start_and_serve(path, kinds, loaded, text, given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Together with other lines of the log, but without their form: it may be all there is.
            eprintln!("tidegate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Anything that ends the process.
type Fatal = Box<dyn std::error::Error + Send + Sync>;

fn start_and_serve(
    path: &Path,
    kinds: Kinds,
    loaded: Loaded,
    text: bool,
    given: Given,
) -> Result<(), Fatal> {
    let state_dir = StateDir::lock(&loaded.config.runtime.state_dir)?;
    let scribes = journal::Scribes::start(state_dir.path())?;
    let admin = Server::bind(&loaded.config.admin)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    let clock = Clock::real();
    let plane = DataPlane::start(Params {
        workers: loaded.config.runtime.workers,
        clock: clock.clone(),
        given,
    })?;
    let reloader = Reloader {
        kinds,
        tls: crate::tls::Loader::default(),
        scribes,
        access: Some(admin.access()),
        tasks: services::Tasks::default(),
    };
    let applied = Applied::new(path.to_owned(), loaded);
    let control = Control::new(clock, plane, applied, reloader);
    let result = runtime.block_on(serve(control, admin, state_dir.path(), text));
    // What is still running (a hanging call of an orchestrator) does not hold the end up.
    runtime.shutdown_background();
    result
}

async fn serve(
    control: Arc<Control>,
    admin: Server,
    state_dir: &Path,
    text: bool,
) -> Result<(), Fatal> {
    let mut signals = Signals::new()?;
    let notices = lock(&control.registry).notices();
    tokio::spawn(outlier::follow(
        control.clone(),
        notices.ok_or("ejections are followed already")?,
    ));
    let runtime = lock(&control.applied).taken.config.runtime.clone();
    let started = control.start(|| privileges::drop_rights(&runtime, state_dir)).await;
    started.map_err(|problems| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\ntidegate: ")
    })?;
    let path = lock(&control.applied).path.clone();
    banner::listening(&control, &path, &admin.url(), admin.public_url().as_deref(), text);

    let handle = Arc::new(Handle::new(control.clone()));
    let (end_admin, admin_ends) = tokio::sync::oneshot::channel::<()>();
    let admin = tokio::spawn(admin.serve(handle, async {
        // Dropped or sent: either ends it.
        let _ = admin_ends.await;
    }));
    tokio::spawn(banner::settle(control.clone(), text));
    tokio::spawn(tick(control.clone()));
    tokio::spawn(watchdog::run(control.clone()));
    if runtime.watch {
        tokio::spawn(watch(control.clone()));
    }

    let signal = loop {
        tokio::select! {
            worker = control.plane.died() => {
                kill_backends(&control).await;
                return Err(format!("worker thread {worker} died").into());
            }
            signal = signals.next() => match signal {
                Signal::Reload => {
                    // In its own task, so that a TERM is not kept waiting. It tells itself how it went.
                    let control = control.clone();
                    tokio::spawn(async move { control.reload().await.is_ok() });
                }
                Signal::ReopenLogs => control.reopen_logs(),
                Signal::Stop(name) => break name,
            }
        }
    };
    tokio::select! {
        () = control.stop(signal) => {}
        () = signals.second_stop() => {
            tracing::warn!("a second signal: ending at once");
            kill_backends(&control).await;
        }
    }
    drop(end_admin);
    let _ = tokio::time::timeout(Duration::from_secs(2), admin).await;
    Ok(())
}

/// The quick end: what must not outlive us is told to stop, and waited for briefly.
async fn kill_backends(control: &Arc<Control>) {
    let _ = tokio::time::timeout(Duration::from_secs(2), control.stop_backends()).await;
}

/// Once a second, for as long as the process runs.
async fn tick(control: Arc<Control>) {
    let mut timer = tokio::time::interval(TICK);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        control.tick();
    }
}

/// Reloads when a file changes.
async fn watch(control: Arc<Control>) {
    let (mut files, first) = {
        let applied = lock(&control.applied);
        let mut files = applied.files.subscribe();
        let first = files.borrow_and_update().clone();
        (files, first)
    };
    let mut watch = match Watch::new(first) {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!("changes of the configuration are not noticed: {error}");
            return;
        }
    };
    loop {
        tokio::select! {
            () = watch.changed() => {
                // A failure was told, and is kept for the admin API.
                let _ = control.reload().await;
            }
            changed = files.changed() => match changed {
                Ok(()) => watch.retarget(files.borrow_and_update().clone()),
                Err(_) => return,
            }
        }
    }
}

/// A lock whose holder panicked still guards whole values: every change under one is small and
/// made in an order that leaves it usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
