//! Taking a configuration into use: the first one and every later one go the same way.
//!
//! Everything that can fail comes first (files, certificates, orchestrators, sockets); what
//! follows cannot fail. So a bad configuration changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use crate::admin::AccessHandle;
use crate::admin::view;
use crate::config::types::{AccessLog as AccessConfig, Config};
use crate::config::watch::Seen;
use crate::config::{self, Env, Problem};
use crate::orchestrator::kinds::Kinds;
use crate::orchestrator::{Context, Orchestrator};
use crate::telemetry::access_log::AccessLog;
use crate::tls;
use crate::worker::Binding;

use super::applied::{Applied, Taken};
use super::core::Control;
use super::discover::First;
use super::events::Kind;
use super::journal::Scribes;
use super::lock;
use super::managed::within;
use super::privileges::DropError;
use super::services::Tasks;
use super::session_key;
use super::tls::LoadedTls;

/// What only a reload needs; held by it.
pub struct Reloader {
    pub kinds: Kinds,
    pub tls: tls::Loader,
    pub scribes: Scribes,
    pub access: Option<AccessHandle>,
    pub tasks: Tasks,
}

/// All that a configuration needs to be taken into use without failing.
struct Prepared {
    taken: Taken,
    tls: LoadedTls,
    orchestrators: BTreeMap<Arc<str>, Arc<dyn Orchestrator>>,
    access_log: Option<Arc<AccessLog>>,
    /// What sources of backends said that are new.
    firsts: Vec<First>,
    /// For sticky services without a secret of their own.
    session_key: Option<Arc<[u8]>>,
}

/// Half of a start.
pub(super) struct Starting {
    taken: Taken,
    tls: LoadedTls,
    binding: Binding,
}

impl Control {
    /// Takes the first configuration into use. `drop_rights` is called once everything is bound
    /// and read that may need more rights than what follows: from there on processes are
    /// started, taken over and served.
    ///
    /// # Errors
    /// Everything that stands in the way; then nothing listens and nothing was started.
    pub async fn start(
        self: &Arc<Self>,
        drop_rights: impl FnOnce() -> Result<(), DropError>,
    ) -> Result<(), Vec<Problem>> {
        let starting = self.prepare_start(drop_rights).await?;
        let binding = self.take_first(starting).await?;
        self.plane.listen(binding).await;
        Ok(())
    }

    /// The first half of a start: everything that needs no backend.
    ///
    /// # Errors
    /// As for [`Control::start`].
    pub(super) async fn prepare_start(
        self: &Arc<Self>,
        drop_rights: impl FnOnce() -> Result<(), DropError>,
    ) -> Result<Starting, Vec<Problem>> {
        let mut reloader = self.reloading.lock().await;
        self.read_added();
        let taken = lock(&self.applied).taken.clone();
        let path = lock(&self.applied).path.clone();
        let tls = LoadedTls::load(&mut reloader.tls, &taken.config)
            .map_err(|errors| errors.into_iter().map(|e| problem(&path, e)).collect::<Vec<_>>())?;
        let binding = self.bind(&taken.config)?;
        for name in self.plane.close_unused() {
            tracing::warn!(
                "a socket named {name:?} was passed that no listener uses; it is closed"
            );
        }
        drop_rights().map_err(|error| vec![problem(&path, error.to_string())])?;
        Ok(Starting { taken, tls, binding })
    }

    /// The second half, up to the moment in which connections could be accepted.
    ///
    /// # Errors
    /// As for [`Control::start`].
    pub(super) async fn take_first(
        self: &Arc<Self>,
        starting: Starting,
    ) -> Result<Binding, Vec<Problem>> {
        let mut reloader = self.reloading.lock().await;
        let Starting { taken, tls, binding } = starting;
        let mut prepared = self.prepare(&mut reloader, taken, tls).await?;
        if !self.standing.is_service() {
            // There were backends before us; they are not to be found anew.
            prepared.firsts = self.ask_first(&reloader.tasks, &prepared.taken.config).await;
        }
        let config = prepared.taken.config.clone();
        let generation = self.take(&mut reloader, prepared);
        let (control, kinds) = (self.clone(), reloader.kinds.clone());
        tokio::spawn(async move {
            // The process before us may still have requests there.
            control.standing.alone().await;
            control.end_leftovers(kinds, &config);
        });
        self.acknowledged(generation).await;
        Ok(binding)
    }

    /// Reads the configuration again and takes it into use.
    ///
    /// # Errors
    /// Every mistake that was found; then nothing has changed.
    pub async fn reload(self: &Arc<Self>) -> Result<view::ReloadOk, Vec<Problem>> {
        let mut reloader = self.reloading.lock().await;
        let before = self.files_now();
        self.manager.reloading();
        let result = self.try_reload(&mut reloader).await;
        if !self.stopping.load(Relaxed) && self.standing.is_service() {
            self.manager.ready(&match &result {
                Ok(ok) => format!("serving configuration {}", ok.generation),
                Err(_) => "serving; the last reload failed".to_owned(),
            });
        }
        let mut applied = lock(&self.applied);
        let at = SystemTime::now().into();
        match &result {
            Ok(ok) => {
                applied.reloads.0 += 1;
                applied.last =
                    Some(view::LastReload { at, ok: true, error: None, problems: Vec::new() });
                let restart_required = ok.restart_required.clone();
                let kind = Kind::Reload { generation: ok.generation, restart_required };
                self.events.send(None, kind);
            }
            Err(problems) => {
                applied.reloads.1 += 1;
                watch_bad_files(&applied, before, problems);
                let errors: Vec<_> = problems.iter().map(ToString::to_string).collect();
                applied.last = Some(view::LastReload {
                    at,
                    ok: false,
                    error: Some(match &errors[..] {
                        [one] => one.clone(),
                        more => format!("{} problems", more.len()),
                    }),
                    problems: problems.iter().cloned().map(Into::into).collect(),
                });
                self.events.send(None, Kind::ReloadFailed { errors });
            }
        }
        result
    }

    async fn try_reload(
        self: &Arc<Self>,
        reloader: &mut Reloader,
    ) -> Result<view::ReloadOk, Vec<Problem>> {
        let path = lock(&self.applied).path.clone();
        let (kinds, file) = (reloader.kinds.clone(), path.clone());
        let read = tokio::task::spawn_blocking(move || {
            let loaded = config::load(&file, &kinds, &Env::of_process())?;
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            Ok::<_, Vec<Problem>>(Taken::from(loaded))
        });
        let taken = read.await.map_err(|e| vec![problem(&path, format!("reading: {e}"))])??;
        if self.stopping.load(Relaxed) {
            return Err(vec![problem(&path, "tidegate is stopping".into())]);
        }
        let restart_required = self.restart_required(&taken.config);
        let tls = LoadedTls::load(&mut reloader.tls, &taken.config)
            .map_err(|errors| errors.into_iter().map(|e| problem(&path, e)).collect::<Vec<_>>())?;
        let binding = self.bind(&taken.config)?;
        let mut prepared = self.prepare(reloader, taken, tls).await?;
        prepared.firsts = self.ask_first(&reloader.tasks, &prepared.taken.config).await;
        let generation = self.take(reloader, prepared);
        self.acknowledged(generation).await;
        self.plane.listen(binding).await;
        let generation = lock(&self.applied).generation;
        Ok(view::ReloadOk { generation, restart_required })
    }

    /// Keys that are not as what runs was started with: they take effect with the next start.
    fn restart_required(&self, new: &Config) -> Vec<String> {
        let mut keys = restart_required(lock(&self.applied).started(), new);
        for (name, service) in &new.services {
            let Some(managed) = self.managed(name) else { continue };
            let built = managed.built();
            let same = service.orchestrator.as_ref().is_none_or(|new| {
                new.kind == built.kind
                    && new.table == built.table
                    && new.stop_grace == built.stop_grace
            });
            if !same {
                keys.push(format!("service.{name}.orchestrator"));
            }
        }
        keys
    }

    /// The watched files as they are now.
    fn files_now(&self) -> Vec<Seen> {
        let files = lock(&self.applied).files.borrow().clone();
        files.into_iter().map(|seen| Seen::now(seen.path)).collect()
    }

    async fn prepare(
        &self,
        reloader: &mut Reloader,
        taken: Taken,
        tls: LoadedTls,
    ) -> Result<Prepared, Vec<Problem>> {
        let mut problems = Vec::new();
        let path = lock(&self.applied).path.clone();
        let mut prepared = Prepared {
            tls,
            orchestrators: BTreeMap::new(),
            access_log: None,
            firsts: Vec::new(),
            session_key: None,
            taken,
        };
        let config = &prepared.taken.config;
        match session_key::of(config) {
            Ok(key) => prepared.session_key = key,
            Err(error) => problems.push(problem(&path, error)),
        }
        match self.access_log(&config.log.access) {
            Ok(log) => prepared.access_log = log,
            Err(error) => problems.push(problem(&path, format!("log.access.path: {error}"))),
        }
        for (name, service) in &config.services {
            let Some(orchestrator) = &service.orchestrator else { continue };
            if self.managed(name).is_some() {
                continue;
            }
            if lock(&self.ending).contains_key(name) {
                let message = format!(
                    "service \"{name}\": what ran for it before is still being ended; reload again then"
                );
                problems.push(problem(&path, message));
                continue;
            }
            let state_dir = &config.runtime.state_dir;
            match build(&reloader.kinds, name, orchestrator, state_dir) {
                Ok(built) => {
                    prepared.orchestrators.insert(name.clone(), built);
                }
                Err(error) => problems
                    .push(problem(&path, format!("service \"{name}\": orchestrator: {error}"))),
            }
        }
        if problems.is_empty() {
            return Ok(prepared);
        }
        let_go(prepared.orchestrators).await;
        Err(problems)
    }

    /// The open log if nothing about it changed, else a new one.
    fn access_log(&self, new: &AccessConfig) -> std::io::Result<Option<Arc<AccessLog>>> {
        let open = lock(&self.assembly).access_log().cloned();
        let applied = lock(&self.applied);
        if open.is_some() && applied.taken.config.log.access == *new {
            return Ok(open);
        }
        AccessLog::open(new, self.log_dropped.clone())
    }

    fn bind(&self, config: &Config) -> Result<Binding, Vec<Problem>> {
        let path = lock(&self.applied).path.clone();
        self.plane.bind(&config.listeners).map_err(|errors| {
            errors.iter().map(|error| problem(&path, error.to_string())).collect()
        })
    }

    /// What cannot fail: returns the snapshot's generation.
    fn take(self: &Arc<Self>, reloader: &mut Reloader, prepared: Prepared) -> u64 {
        let Prepared { taken, tls, orchestrators, access_log, firsts, session_key } = prepared;
        let config = taken.config.clone();
        {
            let mut registry = lock(&self.registry);
            registry.set_session_key(session_key);
            registry.set_zone(config.runtime.zone.clone());
        }
        let retired = self.take_services(&config, &tls.origins, &firsts);
        let closed = lock(&self.assembly).configure(&config, &tls.listeners, access_log);
        let generation = self.publish();
        if !closed.is_empty() {
            let (control, limit) = (self.clone(), config.runtime.shutdown_timeout);
            tokio::spawn(async move { control.plane.let_leave(&closed, limit).await });
        }
        self.take_orchestrators(reloader, &config, orchestrators);
        self.follow_feeds(&mut reloader.tasks, &config, firsts);
        self.retire(&mut reloader.tasks, retired, &config);
        self.follow_outlier_settings(&config);
        if let Some(access) = &reloader.access {
            access.set(&config.admin, tls.admin);
        }
        lock(&self.notifiers).configure(&config.notify, || self.events.subscribe());
        let names: Vec<_> = config.listeners.iter().map(|l| l.name.clone()).collect();
        reloader.tls.retain(&names);
        let mut applied = lock(&self.applied);
        applied.generation += 1;
        applied.certificates = tls.certificates;
        applied.files.send_replace(taken.files.clone());
        applied.taken = taken;
        generation
    }
}

/// A mistake may be in a file that the configuration in use does not have. It is watched too, so
/// that its correction is noticed.
fn watch_bad_files(applied: &Applied, before: Vec<Seen>, problems: &[Problem]) {
    let mut files = before;
    let known = files.len();
    for problem in problems {
        if !files.iter().any(|seen| seen.path == problem.file) {
            files.push(Seen::now(problem.file.clone()));
        }
    }
    if files.len() > known {
        applied.files.send_replace(files);
    }
}

/// Keys of the process that changed since it was started and take effect with the next start only.
fn restart_required(old: &Config, new: &Config) -> Vec<String> {
    let (a, b) = (&old.runtime, &new.runtime);
    let keys = [
        (a.workers != b.workers, "runtime.workers"),
        (a.state_dir != b.state_dir, "runtime.state_dir"),
        (a.user != b.user, "runtime.user"),
        (a.group != b.group, "runtime.group"),
        (a.watch != b.watch, "runtime.watch"),
        (old.log.level != new.log.level, "log.level"),
        (old.log.format != new.log.format, "log.format"),
        (old.admin.listen != new.admin.listen, "admin.listen"),
        (old.admin.public_listen != new.admin.public_listen, "admin.public_listen"),
    ];
    keys.into_iter().filter(|(changed, _)| *changed).map(|(_, key)| key.to_owned()).collect()
}

/// An orchestrator for a service, as its settings say.
pub(super) fn build(
    kinds: &Kinds,
    service: &Arc<str>,
    settings: &config::types::Orchestrator,
    state_dir: &Path,
) -> Result<Arc<dyn Orchestrator>, String> {
    let context = Context {
        service: service.clone(),
        table: settings.table.clone(),
        state_dir: state_dir.join("services").join(&**service),
        stop_grace: settings.stop_grace,
    };
    let factory = kinds.get(&settings.kind).map_err(|error| error.to_string())?;
    factory.build(context).map_err(|error| error.to_string())
}

/// Orchestrators that are not taken into use after all: what they found runs on.
async fn let_go(orchestrators: BTreeMap<Arc<str>, Arc<dyn Orchestrator>>) {
    for orchestrator in orchestrators.into_values() {
        // Nobody is left to be told, and the next start finds the same.
        let _ = within(orchestrator.shutdown(false)).await;
    }
}

fn problem(path: &Path, message: String) -> Problem {
    Problem { file: path.to_owned(), line: 0, column: 0, message }
}
