//! One instance as its supervisor holds it: the process, its port, its output, where it is in
//! its life. When it is started, stopped or replaced is decided by the supervisor.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::super::{Instance, InstanceState, Usage};
use super::group::Group;
use super::output::Output;
use super::ports::Lease;
use super::procfs::{self, Listening, Stat};
use super::{store, sys};
use crate::clock::Micros;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) group: Group,
    /// `None` if it was dead when it was found.
    pub(super) pidfd: Option<OwnedFd>,
    /// Whether it is our child, to be reaped by us.
    pub(super) own: bool,
    pub(super) port: Lease,
    pub(super) output: Option<Output>,
    pub(super) phase: Phase,
    pub(super) address: Option<SocketAddr>,
    pub(super) started: Micros,
    pub(super) started_at: SystemTime,
    /// It lived long enough to show that starting works.
    pub(super) proven: bool,
    /// How the leader ended, once it has.
    pub(super) ended: Option<String>,
    pub(super) told_of_stranger: bool,
    /// CPU ticks and time of the last look.
    pub(super) cpu: (u64, Micros),
}

/// Whether it is a child of this process: one may be found again that it started itself, after a
/// hand-over that failed.
pub(super) fn is_child(pidfd: &OwnedFd) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    waitid(Id::PIDFd(pidfd.as_fd()), flags).is_ok()
}

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Running,
    /// It was told to stop.
    Stopping(Stop),
    /// The leader ended by itself; what it left behind is ended.
    Remains(Stop),
}

/// The end of a group under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) kill_at: Micros,
    pub(super) killed: bool,
    /// When to look again for what is left, and the pause after that.
    pub(super) look_at: Micros,
    pub(super) pause: Micros,
}

impl Stop {
    pub(super) fn new(now: Micros, grace: Duration) -> Self {
        let kill_at = now + grace.as_micros() as Micros;
        Self { kill_at, killed: false, look_at: now, pause: 2_000 }
    }

    /// The next look: soon at first, then at most every 200 ms.
    pub(super) fn looked(&mut self, now: Micros) {
        self.look_at = now + self.pause;
        self.pause = (self.pause * 2).min(200_000);
    }
}

impl Member {
    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    pub(super) fn stop(&mut self) -> Option<&mut Stop> {
        match &mut self.phase {
            Phase::Stopping(stop) | Phase::Remains(stop) => Some(stop),
            Phase::Starting | Phase::Running => None,
        }
    }

    /// Readable once the leader ended; `None` once that was noticed.
    pub(super) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().filter(|_| self.ended.is_none()).map(OwnedFd::as_fd)
    }

    /// How the leader ended. It is not reaped yet: while it is a zombie, the number of its
    /// group stays its own.
    pub(super) fn how_it_ended(&self) -> String {
        let status = self.pidfd.as_ref().filter(|_| self.own).and_then(|fd| {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
            match waitid(Id::PIDFd(fd.as_fd()), flags).ok()? {
                WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw(code << 8)),
                WaitStatus::Signaled(_, signal, _) => Some(ExitStatus::from_raw(signal as i32)),
                _ => None,
            }
        });
        let how = status.map_or_else(|| "ended, status unknown".to_owned(), |s| s.to_string());
        match self.output.as_ref().map(Output::last).filter(|last| !last.is_empty()) {
            Some(last) => format!("{how}; it last said: {last}"),
            None => how,
        }
    }

    /// Signals all of it.
    pub(super) fn signal(&self, all: &[Stat], signal: Signal) {
        // Unreaped if it is ours; else as good as that if it lived a moment ago.
        let leader = self.pidfd.is_some() && (self.own || self.group.leader_lives());
        self.group.signal(&self.group.members(all), leader, signal);
    }

    /// Takes the zombie away.
    pub(super) fn reap(&self) {
        if self.own {
            let _ = waitpid(Pid::from_raw(self.group.pid), Some(WaitPidFlag::WNOHANG));
        }
    }

    /// Where it listens, if one of these sockets on its port is held by it. `None` also if a
    /// stranger has the port.
    pub(super) fn listens(&self, sockets: &[Listening]) -> Option<SocketAddr> {
        let port = self.port.port();
        let held = |pid: i32| {
            sockets.iter().find(|s| s.port == port && procfs::holds_socket(pid, &[s.inode]))
        };
        let socket = held(self.group.pid).or_else(|| {
            let all = procfs::all();
            self.group.in_session(&all).find_map(|member| held(member.pid))
        })?;
        let address = match socket.address {
            any if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            one => one,
        };
        Some(SocketAddr::new(address, port))
    }

    /// CPU since the last call (since the start at first) and memory now.
    pub(super) fn usage(&mut self, all: &[Stat], now: Micros) -> Usage {
        let (ticks, pages) = self
            .group
            .in_session(all)
            .fold((0, 0), |(ticks, pages), s| (ticks + s.cpu, pages + s.resident));
        let (before, since) = self.cpu;
        let seconds = now.saturating_sub(since).max(1) as f64 / 1e6;
        self.cpu = (ticks, now);
        Usage {
            cpu: ticks.saturating_sub(before) as f64 / sys::clock_ticks() / seconds,
            cpu_limit: None,
            memory_bytes: pages * sys::page_size(),
        }
    }

    /// What is told of it; nothing of mere remains.
    pub(super) fn instance(&self) -> Option<Instance> {
        let state = match self.phase {
            Phase::Starting => InstanceState::Starting,
            Phase::Running => InstanceState::Running,
            Phase::Stopping(_) => InstanceState::Stopping,
            Phase::Remains(_) => return None,
        };
        Some(self.instance_in(state))
    }

    pub(super) fn instance_in(&self, state: InstanceState) -> Instance {
        let mut labels = BTreeMap::from([("pid".to_owned(), self.group.pid.to_string())]);
        if !self.own {
            labels.insert("adopted".to_owned(), "true".to_owned());
        }
        Instance {
            id: self.group.id.clone(),
            address: self.address,
            state,
            labels,
            zone: None,
            started_at: self.started_at,
        }
    }

    pub(super) fn record(&self) -> store::Record {
        store::Record {
            id: self.group.id.to_string(),
            pid: self.group.pid,
            start: self.group.start,
            port: self.port.port(),
            started_at: store::to_millis(self.started_at),
        }
    }
}
