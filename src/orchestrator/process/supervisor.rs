//! The thread that owns the children of one service.
//!
//! One owner and no locks around it: calls arrive as commands, answers go back over channels,
//! and what there is gets published for `list`. The thread sleeps in `poll` until a command
//! comes, a child ends or something is due. It is a thread and not a task because forking,
//! syncing files and reading /proc block. Starting and finding again is in `launch`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::{oneshot, watch};

use super::super::{Applied, Instance, InstanceId, InstanceState, OrchestratorError, Plan, Usage};
use super::backoff::{Backoff, STABLE};
use super::guard::Guard;
use super::member::{Member, Phase, Stop};
use super::ports::Ports;
use super::procfs::{self, Stat};
use super::settings::Settings;
use super::store::{Saved, Store};
use super::sys;
use crate::clock::{Clock, Micros};

/// How often output is carried over.
const OUTPUT_EVERY: Micros = 200_000;
/// A worker that listens nowhere runs when it has stayed for so long.
const SETTLED: Micros = 1_000_000;
/// Exits that nobody listed; older ones are dropped.
const MAX_EXITS: usize = 256;

/// What is asked of the thread.
pub(super) enum Command {
    Apply(Plan, oneshot::Sender<Result<Applied, OrchestratorError>>),
    Usage(oneshot::Sender<BTreeMap<InstanceId, Usage>>),
    /// Stop all and answer when none is left, or let go of them.
    Shutdown {
        stop: bool,
        done: oneshot::Sender<()>,
    },
}

/// What the thread tells without being asked.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) now: Mutex<Report>,
    /// Counts the changes of `now`.
    pub(super) version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) instances: Vec<Instance>,
    /// Each is told once.
    pub(super) exits: Vec<Instance>,
}

pub(super) struct Supervisor {
    pub(super) service: Arc<str>,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) rng: fastrand::Rng,
    pub(super) boot: String,
    pub(super) ports: Ports,
    pub(super) store: Store,
    pub(super) guard_command: Vec<std::ffi::OsString>,
    pub(super) guard: Option<Guard>,
    /// In the order of their starts.
    pub(super) members: Vec<Member>,
    /// Generation and size of the last plan; nothing is started before the first.
    pub(super) plan: Option<(u64, u32)>,
    pub(super) backoff: Backoff,
    /// No port was free at the last attempt, at this moment.
    pub(super) no_port: Option<Micros>,
    pub(super) next_look: Micros,
    pub(super) next_output: Micros,
    pub(super) exits: Vec<Instance>,
    pub(super) ending: Vec<oneshot::Sender<()>>,
    /// The handle is gone: nobody will call again.
    pub(super) abandoned: bool,
    pub(super) published: Arc<Published>,
}

impl Supervisor {
    /// The thread's whole life.
    pub(super) fn run(mut self, commands: &Receiver<Command>, wake: &UnixStream) {
        loop {
            loop {
                match commands.try_recv() {
                    Ok(Command::Apply(plan, reply)) => drop(reply.send(self.apply(plan))),
                    Ok(Command::Usage(reply)) => drop(reply.send(self.usage())),
                    Ok(Command::Shutdown { stop: true, done }) => self.stop_all(done),
                    Ok(Command::Shutdown { stop: false, done }) => {
                        self.let_go();
                        let _ = done.send(());
                        return;
                    }
                    Err(TryRecvError::Empty) => break,
                    // Dropped without a word, as if we had crashed: no goodbye to the guard.
                    Err(TryRecvError::Disconnected) if self.ending.is_empty() => return,
                    Err(TryRecvError::Disconnected) => {
                        self.abandoned = true;
                        break;
                    }
                }
            }
            self.step();
            if !self.ending.is_empty() && self.members.is_empty() {
                if let Some(guard) = self.guard.take() {
                    guard.dismiss();
                }
                self.ending.drain(..).for_each(|done| done.send(()).unwrap_or(()));
                return;
            }
            self.sleep(wake);
        }
    }

    /// Everything that is due.
    fn step(&mut self) {
        let now = self.clock.now();
        self.notice_exits(now);
        self.go_on_stopping(now);
        self.look_for_listeners(now);
        for member in self.members.iter_mut().filter(|m| m.phase == Phase::Running && !m.proven) {
            if now >= member.started + STABLE.as_micros() as Micros {
                member.proven = true;
                self.backoff.proven(member.started);
            }
        }
        self.fill(now);
        self.read_output(now);
        self.keep_guard();
        self.publish();
    }

    fn apply(&mut self, plan: Plan) -> Result<Applied, OrchestratorError> {
        if !self.ending.is_empty() {
            return Err(OrchestratorError::Permanent(format!("{}: ending", self.service)));
        }
        if let Some((applied, _)) = self.plan
            && plan.generation < applied
        {
            return Err(OrchestratorError::Stale { got: plan.generation, applied });
        }
        self.plan = Some((plan.generation, plan.desired));
        let now = self.clock.now();
        self.notice_exits(now);
        let stopping = self.stop_where(now, |member| plan.remove.contains(&member.group.id));
        let (started, held_back) = self.fill(now);
        self.publish();
        Ok(Applied { started, stopping, held_back })
    }

    /// Tells live members to stop.
    fn stop_where(&mut self, now: Micros, which: impl Fn(&Member) -> bool) -> Vec<InstanceId> {
        let (signal, grace) = (self.settings.stop_signal, self.settings.stop_grace);
        let chosen = self.members.iter_mut().filter(|m| m.is_live() && which(m));
        let chosen: Vec<&mut Member> = chosen.collect();
        if chosen.is_empty() {
            return Vec::new();
        }
        let all = procfs::all();
        let stop = |member: &mut Member| {
            tracing::debug!(service = &*self.service, instance = &*member.group.id, "stopping");
            member.phase = Phase::Stopping(Stop::new(now, grace));
            member.signal(&all, signal);
            member.group.id.clone()
        };
        chosen.into_iter().map(stop).collect()
    }

    fn stop_all(&mut self, done: oneshot::Sender<()>) {
        self.ending.push(done);
        self.stop_where(self.clock.now(), |_| true);
    }

    /// They live on without us.
    fn let_go(&mut self) {
        self.read_output(Micros::MAX);
        self.save(true);
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }

    fn usage(&mut self) -> BTreeMap<InstanceId, Usage> {
        let (all, now) = (procfs::all(), self.clock.now());
        let known = self.members.iter_mut().filter(|m| !matches!(m.phase, Phase::Remains(_)));
        known.map(|m| (m.group.id.clone(), m.usage(&all, now))).collect()
    }

    fn notice_exits(&mut self, now: Micros) {
        let fds: Vec<_> = self.members.iter().filter_map(Member::waits_for).collect();
        let Ok(ready) = sys::poll(&fds, Some(Duration::ZERO)) else { return };
        let mut ready = ready.into_iter();
        for member in &mut self.members {
            if member.waits_for().is_none() || ready.next() != Some(true) {
                continue;
            }
            let (service, instance) = (&*self.service, member.group.id.clone());
            if let Some(output) = &mut member.output {
                let _ = output.read(&mut |line| log_line(service, &instance, line));
            }
            let how = member.how_it_ended();
            if member.is_live() {
                // Whoever lists it tells people.
                tracing::debug!(service, instance = &*instance, "instance ended by itself: {how}");
                self.exits.push(member.instance_in(InstanceState::Exited(how.clone())));
                self.backoff.exited(member.started, now, &how);
                // Its descendants get the same signal and grace as if it had been stopped.
                member.phase = Phase::Remains(Stop::new(now, self.settings.stop_grace));
                member.signal(&procfs::all(), self.settings.stop_signal);
            }
            member.ended = Some(how);
            if let Some(stop) = member.stop() {
                stop.look_at = now;
            }
        }
    }

    /// Kills what outlived its grace, forgets what is gone.
    fn go_on_stopping(&mut self, now: Micros) {
        let mut all: Option<Vec<Stat>> = None;
        let mut gone = Vec::new();
        for (at, member) in self.members.iter_mut().enumerate() {
            let ended = member.ended.is_some();
            let Some(stop) = member.stop() else { continue };
            let overdue = now >= stop.kill_at && (ended || !stop.killed);
            if !(overdue || ended) || now < stop.look_at {
                continue;
            }
            stop.looked(now);
            let killed = stop.killed;
            stop.killed |= overdue;
            let all = all.get_or_insert_with(procfs::all);
            if ended && member.group.members(all).is_empty() {
                gone.push(at);
            } else if overdue {
                if !killed {
                    let (service, instance) = (&*self.service, &*member.group.id);
                    tracing::warn!(service, instance, "killed: it outlived its stop grace");
                }
                member.signal(all, Signal::SIGKILL);
            }
        }
        for &at in gone.iter().rev() {
            let member = self.members.remove(at);
            member.reap();
            if let Some(guard) = &mut self.guard {
                let _ = guard.forget(&member.group.id);
            }
            if let Some(output) = member.output {
                output.finish(&mut |line| log_line(&self.service, &member.group.id, line));
            }
        }
        if !gone.is_empty() {
            self.save(false);
        }
    }

    fn look_for_listeners(&mut self, now: Micros) {
        let starting = self.members.iter().filter(|m| m.phase == Phase::Starting);
        let Some(youngest) = starting.map(|m| m.started).max() else { return };
        if now < self.next_look {
            return;
        }
        // Often while a start is fresh: each look late is a look later that it serves.
        self.next_look = now
            + match now.saturating_sub(youngest) {
                0..2_000_000 => 10_000,
                2_000_000..10_000_000 => 50_000,
                _ => 200_000,
            };
        let sockets = procfs::listening();
        let gives_port = self.settings.gives_port();
        for member in self.members.iter_mut().filter(|m| m.phase == Phase::Starting) {
            let port = member.port.port();
            // A worker that was told no port need not listen: that it stays is all there is to see.
            if !gives_port && now >= member.started + SETTLED {
                member.address = Some(SocketAddr::from(([127, 0, 0, 1], port)));
                member.phase = Phase::Running;
                continue;
            }
            if !sockets.iter().any(|socket| socket.port == port) {
                continue;
            }
            let (service, instance) = (&*self.service, &*member.group.id);
            if let Some(address) = member.listens(&sockets) {
                tracing::debug!(service, instance, %address, "instance listens");
                member.address = Some(address);
                member.phase = Phase::Running;
            } else if !std::mem::replace(&mut member.told_of_stranger, true) {
                tracing::warn!(service, instance, port, "another process listens on its port");
            }
        }
    }

    fn read_output(&mut self, now: Micros) {
        if now < self.next_output {
            return;
        }
        self.next_output = now.saturating_add(OUTPUT_EVERY);
        for member in &mut self.members {
            let (service, instance) = (&*self.service, &*member.group.id);
            let Some(output) = &mut member.output else { continue };
            if let Err(error) = output.read(&mut |line| log_line(service, instance, line)) {
                tracing::warn!(service, instance, %error, "its output cannot be read any more");
                member.output = None;
            }
        }
    }

    /// Writes down what there is. A failure is told and lived with: only an adoption after a
    /// crash depends on it.
    pub(super) fn save(&self, kept: bool) {
        let instances = self.members.iter().map(Member::record).collect();
        let saved = Saved { boot: self.boot.clone(), kept, instances };
        if let Err(error) = self.store.save(&saved) {
            tracing::warn!(service = &*self.service, %error, "cannot write instances.json");
        }
    }

    pub(super) fn publish(&mut self) {
        let instances: Vec<Instance> = self.members.iter().filter_map(Member::instance).collect();
        let mut now = self.published.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.instances == instances && self.exits.is_empty() {
            return;
        }
        now.instances = instances;
        now.exits.append(&mut self.exits);
        let surplus = now.exits.len().saturating_sub(MAX_EXITS);
        now.exits.drain(..surplus);
        drop(now);
        self.published.version.send_modify(|version| *version += 1);
    }

    /// Until a command, an exit, or the next thing that is due.
    fn sleep(&self, mut wake: &UnixStream) {
        let now = self.clock.now();
        let stops = self.members.iter().filter_map(|m| match m.phase {
            Phase::Stopping(s) | Phase::Remains(s) if m.ended.is_some() => Some(s.look_at),
            Phase::Stopping(s) | Phase::Remains(s) if !s.killed => Some(s.kill_at),
            _ => None,
        });
        let starting = self.members.iter().any(|m| m.phase == Phase::Starting);
        let due = stops
            .chain(starting.then_some(self.next_look))
            .chain((!self.members.is_empty()).then_some(self.next_output))
            .chain(self.no_port.map(|since| since + 1_000_000))
            .chain(self.backoff.retry_at(now))
            .min();
        let mut fds: Vec<_> = self.members.iter().filter_map(Member::waits_for).collect();
        if !self.abandoned {
            fds.push(wake.as_fd());
        }
        let timeout = due.map(|at| Duration::from_micros(at.saturating_sub(now)));
        if let Err(error) = sys::poll(&fds, timeout) {
            tracing::error!(service = &*self.service, %error, "cannot wait for children");
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut bytes = [0; 64];
        while wake.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
    }
}

pub(super) fn log_line(service: &str, instance: &str, line: &str) {
    tracing::info!(target: "tidegate::backend", service, instance, "{line}");
}
