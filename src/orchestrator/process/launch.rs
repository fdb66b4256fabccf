//! Starting children, and finding those of a tidegate before us.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::super::{InstanceId, InstanceState, OrchestratorError};
use super::backoff::Backoff;
use super::group::Group;
use super::guard::Guard;
use super::member::{self, Member, Phase, Stop};
use super::output::{self, Output};
use super::ports::{Lease, Ports};
use super::procfs::{self, Stat};
use super::settings::{OnCrash, Settings};
use super::spawn::{self, Start};
use super::store::{Record, Store};
use super::supervisor::{Published, Supervisor};
use super::sys;
use crate::clock::{Clock, Micros};

impl Supervisor {
    /// Opens the service's folder, finds what runs already and starts the guard if one is
    /// wanted. Starts no instance.
    pub(super) fn open(
        service: Arc<str>,
        settings: Settings,
        folder: std::path::PathBuf,
        ports: Ports,
        guard_command: Vec<OsString>,
        published: Arc<Published>,
    ) -> Result<Self, OrchestratorError> {
        let store = Store::open(folder.clone()).map_err(|error| {
            OrchestratorError::Permanent(format!("cannot make {}: {error}", folder.display()))
        })?;
        let mut supervisor = Self {
            service,
            settings,
            clock: Clock::real(),
            rng: fastrand::Rng::new(),
            boot: procfs::boot_id(),
            ports,
            store,
            guard_command,
            guard: None,
            members: Vec::new(),
            plan: None,
            backoff: Backoff::default(),
            no_port: None,
            next_look: 0,
            next_output: 0,
            exits: Vec::new(),
            ending: Vec::new(),
            abandoned: false,
            published,
        };
        if supervisor.settings.on_crash == OnCrash::Stop {
            let guard = supervisor.start_guard().map_err(|error| {
                OrchestratorError::Permanent(format!("on_crash = \"stop\" needs a guard: {error}"))
            })?;
            supervisor.guard = Some(guard);
        }
        supervisor.find_again();
        // Before the first list is asked for: who is told of none would take them for a surplus.
        supervisor.publish();
        Ok(supervisor)
    }

    /// Starts what is missing, as far as that is allowed. Says which, and why not more.
    pub(super) fn fill(&mut self, now: Micros) -> (Vec<InstanceId>, Option<String>) {
        let live = self.members.iter().filter(|m| m.is_live());
        let desired = self.plan.filter(|_| self.ending.is_empty()).map_or(0, |(_, n)| n as usize);
        let missing = desired.saturating_sub(live.clone().count());
        self.no_port = self.no_port.filter(|since| missing > 0 && now < since + 1_000_000);
        if missing == 0 {
            return (Vec::new(), None);
        }
        if self.no_port.is_some() {
            return (Vec::new(), Some(self.without_port()));
        }
        let young = live.filter(|m| !m.proven).count();
        let mut prepared = Vec::new();
        for _ in 0..missing.min(self.backoff.allowed(young, now)) {
            let Some(port) = self.ports.lease(&self.settings.ports) else {
                self.no_port = Some(now);
                tracing::warn!(service = &*self.service, "{}", self.without_port());
                break;
            };
            prepared.push((self.new_id(), port));
        }
        let started = self.start(prepared, now);
        let held_back = match () {
            () if started.len() == missing => None,
            () if self.no_port.is_some() => Some(self.without_port()),
            () => Some(self.backoff.reason(now)),
        };
        (started, held_back)
    }

    /// Finds the instances of a tidegate that ended before us. They are taken over, or stopped
    /// if that is what a crash shall mean and it was one.
    fn find_again(&mut self) {
        let service = self.service.clone();
        let saved = self.store.load().unwrap_or_else(|error| {
            tracing::warn!(service = &*service, %error, "cannot read instances.json");
            Default::default()
        });
        if saved.boot == self.boot {
            let all = procfs::all();
            let keep = saved.kept || self.settings.on_crash == OnCrash::Adopt;
            for record in saved.instances {
                self.take_over(&record, keep, &all);
            }
        }
        let known = |id: &str| self.members.iter().any(|m| *m.group.id == *id);
        output::remove_strays(self.store.folder(), known);
        for member in &self.members {
            if let Some(guard) = &mut self.guard {
                let _ = guard.add(&member.group);
            }
        }
        self.save(false);
    }

    fn take_over(&mut self, record: &Record, keep: bool, all: &[Stat]) {
        let id: InstanceId = record.id.as_str().into();
        let group = match record.pid {
            0 => Group::find(&id, all),
            pid => Some(Group { id: id.clone(), pid, start: record.start }),
        };
        let Some(group) = group else { return };
        // The descriptor first, then the look: so it is this process and no later one.
        let pidfd = sys::pidfd_open(group.pid).ok().filter(|_| group.leader_lives());
        if pidfd.is_none() && group.members(all).is_empty() {
            tracing::info!(service = &*self.service, instance = &*id, "ended while we were away");
            return;
        }
        let now = self.clock.now();
        let stop = Stop::new(now, self.settings.stop_grace);
        let (phase, what) = match (pidfd.is_some(), keep) {
            (true, true) => (Phase::Starting, "found again"),
            (true, false) => (Phase::Stopping(stop), "found again, and stopped"),
            (false, _) => (Phase::Remains(stop), "ended while we were away, its remains are ended"),
        };
        tracing::info!(service = &*self.service, instance = &*id, pid = group.pid, "{what}");
        let ticks = group.in_session(all).map(|s| s.cpu).sum();
        let member = Member {
            ended: pidfd.is_none().then(|| "ended while tidegate was away".to_owned()),
            own: pidfd.as_ref().is_some_and(member::is_child),
            pidfd,
            port: self.ports.adopt(record.port),
            output: Output::reopen(self.log_path(&id)).ok(),
            phase,
            address: None,
            started: now,
            started_at: UNIX_EPOCH + Duration::from_millis(record.started_at),
            proven: false,
            told_of_stranger: false,
            cpu: (ticks, now),
            group,
        };
        if phase != Phase::Starting {
            member.signal(all, self.settings.stop_signal);
        }
        self.members.push(member);
    }

    /// Starts these, each on its port; ends early at the first that cannot be started.
    fn start(&mut self, prepared: Vec<(InstanceId, Lease)>, now: Micros) -> Vec<InstanceId> {
        if prepared.is_empty() {
            return Vec::new();
        }
        let first = self.members.len();
        for (id, port) in prepared {
            let group = Group { id, pid: 0, start: 0 };
            self.members.push(Member {
                group,
                pidfd: None,
                own: true,
                port,
                output: None,
                phase: Phase::Starting,
                address: None,
                started: now,
                started_at: self.clock.wall(now),
                proven: false,
                ended: None,
                told_of_stranger: false,
                cpu: (0, now),
            });
        }
        // Written down before they exist: if we die in between they are found by their id.
        self.save(false);
        let mut started = Vec::new();
        for at in first..self.members.len() {
            match self.start_one(at) {
                Ok(()) => started.push(self.members[at].group.id.clone()),
                Err(error) => {
                    let member = &self.members[at];
                    let instance = &*member.group.id;
                    let how = format!("cannot be started: {error}");
                    tracing::warn!(service = &*self.service, instance, "{how}");
                    self.exits.push(member.instance_in(InstanceState::Exited(how.clone())));
                    self.backoff.exited(now, now, &how);
                    for dropped in self.members.drain(at..) {
                        let _ = std::fs::remove_file(
                            self.store.folder().join(format!("{}.log", dropped.group.id)),
                        );
                    }
                    break;
                }
            }
        }
        self.next_look = now;
        self.save(false);
        started
    }

    fn start_one(&mut self, at: usize) -> std::io::Result<()> {
        let id = self.members[at].group.id.clone();
        let port = self.members[at].port.port();
        if let Some(guard) = &mut self.guard {
            let _ = guard.add(&self.members[at].group);
        }
        let (output, child) = Output::create(self.log_path(&id))?;
        let pid = spawn::spawn(&Start {
            command: &self.settings.command(port),
            env: &self.settings.env(port, &id),
            workdir: Some(&self.settings.workdir),
            identity: self.settings.identity.as_ref(),
            output: &child,
        })?;
        let start = Stat::of(pid).map_or(0, |stat| stat.start);
        let member = &mut self.members[at];
        member.group = Group { id, pid, start };
        member.output = Some(output);
        // Not reaped by anyone before us, so the number is still its own.
        match sys::pidfd_open(pid) {
            Ok(pidfd) => member.pidfd = Some(pidfd),
            Err(error) => {
                member.group.signal(&[], true, Signal::SIGKILL);
                let _ = waitpid(Pid::from_raw(pid), None);
                return Err(error);
            }
        }
        if let Some(guard) = &mut self.guard {
            let _ = guard.add(&self.members[at].group);
        }
        let (service, instance) = (&*self.service, &*self.members[at].group.id);
        tracing::debug!(service, instance, pid, port, "instance started");
        Ok(())
    }

    /// Replaces a guard that died.
    pub(super) fn keep_guard(&mut self) {
        if self.guard.as_ref().is_none_or(Guard::lives) {
            return;
        }
        tracing::error!(service = &*self.service, "the guard died; another one is started");
        match self.start_guard() {
            Ok(mut guard) => {
                for member in &self.members {
                    let _ = guard.add(&member.group);
                }
                self.guard = Some(guard);
            }
            Err(error) => {
                tracing::error!(service = &*self.service, %error, "there is no guard any more");
                self.guard = None;
            }
        }
    }

    fn start_guard(&self) -> std::io::Result<Guard> {
        Guard::start(&self.guard_command, self.settings.stop_signal, self.settings.stop_grace)
    }

    fn log_path(&self, id: &str) -> std::path::PathBuf {
        self.store.folder().join(format!("{id}.log"))
    }

    fn without_port(&self) -> String {
        let (first, last) = (self.settings.ports.start(), self.settings.ports.end());
        format!("no port is free in port_range {first}-{last}; give it more")
    }

    /// The service's name and eight random letters: 40 bits, and the store knows those alive.
    fn new_id(&mut self) -> InstanceId {
        let letters: String =
            (0..8).map(|_| self.rng.alphanumeric().to_ascii_lowercase()).collect();
        format!("{}-{letters}", self.service).into()
    }
}
