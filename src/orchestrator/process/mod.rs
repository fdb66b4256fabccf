//! The `process` kind: backends are child processes of tidegate on this machine.
//!
//! [`Process`] is the handle that the control plane calls; a thread of its own (`supervisor`)
//! owns the children. Each child is the leader of its own session, listens on a port it was
//! given, writes to a file we carry into our log, and is written down so that the next
//! tidegate finds it again.
//!
//! What a plan does here: `remove` is stopped (the stop signal to the whole group, the grace,
//! then kill), what is missing up to `desired` is started, and what ends by itself is replaced.
//! A surplus that the plan does not name is left alone, starting ones too: whom to stop is
//! decided by the control plane, which knows what they serve. An instance counts as running
//! once a process of its session owns a listening socket on its port, so a stranger on that
//! port is not taken for it.
//!
//! The command has to stay in the foreground. Linux only (pidfd, /proc).

mod backoff;
mod group;
mod guard;
mod launch;
mod leftovers;
mod member;
mod output;
mod ports;
mod procfs;
mod settings;
mod spawn;
mod store;
mod supervisor;
mod sys;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

pub use guard::{GUARD_ARGUMENT, guard_main, run_guard_if_asked};
pub use ports::Ports;

use super::{
    Applied, Capabilities, Context, Factory, Instance, InstanceId, Orchestrator, OrchestratorError,
    Plan, Usage, Victims,
};
use crate::config::Problem;
use settings::Settings;
use supervisor::{Command, Published, Supervisor};

/// `changed` resolves at the latest after this.
const CHANGED_AT_LEAST: Duration = Duration::from_secs(10);

/// Makes orchestrators of kind `process`.
#[derive(Debug, Clone)]
pub struct ProcessFactory {
    ports: Ports,
    guard: Vec<OsString>,
}

/// The children of one service, seen from outside the thread that owns them. Dropping it
/// without [`Orchestrator::shutdown`] is like a crash: `on_crash` says what follows.
#[derive(Debug)]
pub struct Process {
    service: Arc<str>,
    /// Dropped before `wake`, so that the thread, woken by that, finds it closed.
    commands: mpsc::Sender<Command>,
    wake: UnixStream,
    published: Arc<Published>,
    /// The version that the last `list` told.
    listed: AtomicU64,
}

impl ProcessFactory {
    /// With ports of its own; [`Default`] shares those of the process, as it should be.
    pub fn with_ports(mut self, ports: Ports) -> Self {
        self.ports = ports;
        self
    }

    /// Program and arguments of the guard of `on_crash = "stop"`. Default: this very program
    /// with [`GUARD_ARGUMENT`], which its `main` has to answer with [`run_guard_if_asked`].
    pub fn guard(mut self, command: Vec<OsString>) -> Self {
        self.guard = command;
        self
    }
}

impl Default for ProcessFactory {
    fn default() -> Self {
        let me = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        Self { ports: Ports::shared(), guard: vec![me.into(), GUARD_ARGUMENT.into()] }
    }
}

impl Factory for ProcessFactory {
    fn check(&self, context: &Context) -> Vec<Problem> {
        Settings::read(&context.table, context.stop_grace).err().unwrap_or_default()
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Orchestrator>, OrchestratorError> {
        let settings = Settings::read(&context.table, context.stop_grace).map_err(|problems| {
            let texts: Vec<String> = problems.into_iter().map(|p| p.message).collect();
            OrchestratorError::Permanent(texts.join("\n"))
        })?;
        let published = Arc::<Published>::default();
        let supervisor = Supervisor::open(
            context.service.clone(),
            settings,
            context.state_dir,
            self.ports.clone(),
            self.guard.clone(),
            published.clone(),
        )?;
        Ok(Arc::new(Process::start(context.service, supervisor, published)?))
    }

    fn end_leftovers(&self, state_dir: &std::path::Path) -> std::io::Result<usize> {
        leftovers::end(state_dir)
    }
}

impl Process {
    fn start(
        service: Arc<str>,
        supervisor: Supervisor,
        published: Arc<Published>,
    ) -> Result<Self, OrchestratorError> {
        let failed = |error: std::io::Error| OrchestratorError::Transient(error.to_string());
        let (wake, woken) = UnixStream::pair().map_err(failed)?;
        wake.set_nonblocking(true).map_err(failed)?;
        woken.set_nonblocking(true).map_err(failed)?;
        let (commands, receiver) = mpsc::channel();
        std::thread::Builder::new()
            .name(format!("process {service}"))
            .spawn(move || supervisor.run(&receiver, &woken))
            .map_err(failed)?;
        Ok(Self { service, commands, wake, published, listed: AtomicU64::new(0) })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command + Send,
    ) -> Result<T, OrchestratorError> {
        let ended = || OrchestratorError::Permanent(format!("{}: it was shut down", self.service));
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| ended())?;
        // A full socket wakes the thread as well as one more byte would.
        let _ = (&self.wake).write(&[1]);
        answer.await.map_err(|_| ended())
    }
}

impl Orchestrator for Process {
    fn capabilities(&self) -> Capabilities {
        Capabilities { victims: Victims::Exact, usage: true, outlives_us: true }
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Instance>, OrchestratorError>> {
        async {
            self.listed.store(*self.published.version.borrow(), SeqCst);
            let mut now = self.published.now.lock().unwrap_or_else(PoisonError::into_inner);
            let mut all = std::mem::take(&mut now.exits);
            all.extend(now.instances.iter().cloned());
            Ok(all)
        }
        .boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        async {
            let mut version = self.published.version.subscribe();
            let newer = version.wait_for(|version| *version > self.listed.load(SeqCst));
            let _ = tokio::time::timeout(CHANGED_AT_LEAST, newer).await;
        }
        .boxed()
    }

    fn apply(&self, plan: Plan) -> BoxFuture<'_, Result<Applied, OrchestratorError>> {
        async { self.ask(|reply| Command::Apply(plan, reply)).await? }.boxed()
    }

    fn predict_removal(&self, _: u32) -> BoxFuture<'_, Result<Vec<InstanceId>, OrchestratorError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn usage(&self) -> BoxFuture<'_, Result<BTreeMap<InstanceId, Usage>, OrchestratorError>> {
        self.ask(Command::Usage).boxed()
    }

    fn shutdown(&self, stop: bool) -> BoxFuture<'_, Result<(), OrchestratorError>> {
        self.ask(move |done| Command::Shutdown { stop, done }).boxed()
    }
}
