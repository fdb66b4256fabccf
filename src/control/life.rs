//! What the process does from its start to its end: it starts or takes over, follows signals, and
//! stops, or hands over and finishes what runs.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::admin::Server;
use crate::config::watch::Watch;
use crate::limits::bans;

use super::core::Control;
use super::handle::Handle;
use super::handover::give::{GiveError, Giver, Handed};
use super::handover::take::Predecessor;
use super::signals::{Signal, Signals};
use super::state_dir::StateDir;
use super::{Fatal, banner, lock, outlier, privileges, watchdog};

/// How often traffic is measured and scaling looked at.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// For what is being answered over the admin API at the end.
const ADMIN_LIMIT: Duration = Duration::from_secs(2);

/// What the process begins with.
pub(super) struct Start<'a> {
    pub admin: Server,
    pub state_dir: StateDir,
    pub giver: Giver,
    pub text: bool,
    pub predecessor: Option<&'a Predecessor>,
}

/// Why the process no longer serves.
enum End {
    /// A signal.
    Stop(&'static str),
    /// There is another one. Its end of the socket tells it when this process is gone.
    HandedOver(Handed),
}

pub(super) async fn serve(control: Arc<Control>, start: Start<'_>) -> Result<(), Fatal> {
    let Start { admin, state_dir, giver, text, predecessor } = start;
    let mut signals = Signals::new()?;
    let notices = lock(&control.registry).notices();
    tokio::spawn(outlier::follow(
        control.clone(),
        notices.ok_or("ejections are followed already")?,
    ));
    let runtime = lock(&control.applied).taken.config.runtime.clone();
    let rights = || privileges::drop_rights(&runtime, state_dir.path());
    match predecessor {
        Some(predecessor) => {
            predecessor.take_over(&control, rights, text).await?;
            state_dir.sign()?;
            giver.admin.own(true);
        }
        None => control.start(rights).await.map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\ntidegate: ")
        })?,
    }
    let path = lock(&control.applied).path.clone();
    banner::listening(&control, &path, &admin.url(), admin.public_url().as_deref(), text);

    let handle = Arc::new(Handle::new(control.clone()));
    let (end_admin, admin_ends) = oneshot::channel::<()>();
    let admin = tokio::spawn(admin.serve(handle, async {
        // Dropped or sent: either ends it.
        let _ = admin_ends.await;
    }));
    if predecessor.is_none() {
        tokio::spawn(banner::settle(control.clone(), text));
    }
    tokio::spawn(tick(control.clone()));
    tokio::spawn(look_often(control.clone()));
    tokio::spawn(super::memory::run(control.clone()));
    tokio::spawn(watchdog::run(control.clone()));
    let watching: Option<AbortHandle> =
        runtime.watch.then(|| tokio::spawn(watch_files(control.clone())).abort_handle());

    match follow(&control, &mut signals, giver).await? {
        End::Stop(signal) => {
            or_at_once(&control, &mut signals, control.stop(signal)).await;
            drop(end_admin);
            let _ = tokio::time::timeout(ADMIN_LIMIT, admin).await;
        }
        End::HandedOver(_successor) => {
            if let Some(watching) = watching {
                watching.abort();
            }
            // The other one answers now.
            drop(end_admin);
            finish(&control, &mut signals).await;
            let _ = tokio::time::timeout(ADMIN_LIMIT, admin).await;
        }
    }
    Ok(())
}

/// A hand-over under way.
struct Giving {
    task: JoinHandle<Result<Handed, GiveError>>,
    cancel: watch::Sender<bool>,
}

/// Does what signals ask for until one of them is the end of it.
async fn follow(control: &Arc<Control>, signals: &mut Signals, giver: Giver) -> Result<End, Fatal> {
    let giver = Arc::new(giver);
    let mut giving: Option<Giving> = None;
    let mut stop = None;
    loop {
        tokio::select! {
            worker = control.plane.died() => {
                kill_backends(control).await;
                return Err(format!("worker thread {worker} died").into());
            }
            given = given(&mut giving) => {
                giving = None;
                match (given, stop) {
                    (Some(handed), _) => return Ok(End::HandedOver(handed)),
                    (None, Some(signal)) => return Ok(End::Stop(signal)),
                    // It was told why not; everything goes on.
                    (None, None) => {}
                }
            }
            signal = signals.next() => match signal {
                Signal::Reload => {
                    // In its own task, so that a TERM is not kept waiting. It tells itself how it went.
                    let control = control.clone();
                    tokio::spawn(async move { control.reload().await.is_ok() });
                }
                Signal::ReopenLogs => control.reopen_logs(),
                Signal::HandOver if giving.is_some() => {
                    tracing::warn!("USR2 refused: a hand-over is under way");
                }
                Signal::HandOver => giving = Some(give(control, &giver)),
                Signal::Stop(name) => match &giving {
                    None => return Ok(End::Stop(name)),
                    Some(giving) => {
                        // First everything has to be ours again, unless it is too late for that.
                        giving.cancel.send_replace(true);
                        stop = Some(name);
                    }
                },
            }
        }
    }
}

fn give(control: &Arc<Control>, giver: &Arc<Giver>) -> Giving {
    let (cancel, cancelled) = watch::channel(false);
    let (control, giver) = (control.clone(), giver.clone());
    let task = tokio::spawn(async move { control.pass_on(&giver, cancelled).await });
    Giving { task, cancel }
}

/// How the hand-over under way ended; never, if there is none.
async fn given(giving: &mut Option<Giving>) -> Option<Handed> {
    match giving {
        None => std::future::pending().await,
        Some(giving) => match (&mut giving.task).await {
            Ok(given) => given.ok(),
            Err(error) => {
                tracing::error!("the hand-over failed: {error}");
                None
            }
        },
    }
}

/// The orderly end, or a quick one with a second signal.
async fn or_at_once(control: &Arc<Control>, signals: &mut Signals, end: impl Future<Output = ()>) {
    tokio::select! {
        () = end => {}
        () = signals.second_stop() => {
            tracing::warn!("a second signal: ending at once");
            kill_backends(control).await;
        }
    }
}

/// The end after a hand-over. Nobody waits for it, so it may take long; with a TERM it takes
/// `shutdown_timeout` at most, and none with a second.
async fn finish(control: &Arc<Control>, signals: &mut Signals) {
    let mut finished = pin!(control.finish());
    tokio::select! {
        () = &mut finished => return,
        () = signals.second_stop() => {}
    }
    let limit = lock(&control.applied).taken.config.runtime.shutdown_timeout;
    tracing::info!("TERM: ending within {} s", limit.as_secs_f64());
    tokio::select! {
        _ = tokio::time::timeout(limit, finished) => {}
        () = signals.second_stop() => tracing::warn!("a second signal: ending at once"),
    }
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

/// Several times a second, for as long as the process runs: looks for overload, and has bans held everywhere that
/// whoever banned left to others. One task: several that wake at once wake another thread to share them.
async fn look_often(control: Arc<Control>) {
    const { assert!(super::overload::EVERY.as_micros() == bans::PERIOD.as_micros()) };
    let mut timer = tokio::time::interval(super::overload::EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        control.look_for_overload();
        control.plane.bans().publish_rest();
    }
}

/// Reloads when a file changes.
async fn watch_files(control: Arc<Control>) {
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
