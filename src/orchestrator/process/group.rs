//! All processes of one instance: its leader and whatever that started.
//!
//! The leader begins a session of its own, so its descendants are found by session. Those that
//! left the session (daemons) are found by the id in the environment they inherited. A number
//! of a process in use as session or group is not given to a new process by the kernel, so
//! neither can name strangers while members live.

use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::super::InstanceId;
use super::procfs::{self, Stat};
use super::sys;

/// The variable that carries the id of an instance.
pub(super) const ID_VARIABLE: &str = "TIDEGATE_INSTANCE";

/// Names the processes of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) id: InstanceId,
    /// Process, group and session id of the leader.
    pub(super) pid: i32,
    /// When the leader was started, in clock ticks since boot.
    pub(super) start: u64,
}

impl Group {
    /// Looks for the leader of an instance of which only the id is known.
    pub(super) fn find(id: &InstanceId, all: &[Stat]) -> Option<Self> {
        let leads = |s: &&Stat| s.pid == s.session && !s.is_dead() && carries(s.pid, id);
        let leader = all.iter().filter(leads).min_by_key(|s| s.start)?;
        Some(Self { id: id.clone(), pid: leader.pid, start: leader.start })
    }

    /// Whether the leader lives and is the process that was started: same pid, same start, and
    /// not known to carry another id.
    pub(super) fn leader_lives(&self) -> bool {
        Stat::of(self.pid).is_some_and(|s| s.start == self.start && !s.is_dead())
            && procfs::variable(self.pid, ID_VARIABLE).is_none_or(|id| *id == *self.id)
    }

    /// Everything of it that lives, found by session alone: cheap, and all there is unless
    /// something made itself a daemon.
    pub(super) fn in_session<'a>(&self, all: &'a [Stat]) -> impl Iterator<Item = &'a Stat> {
        let (pid, start) = (self.pid, self.start);
        // Session 0 is the kernel's, and is never meant. A process of the leader's pid and
        // another start: the old session is gone.
        let ours = pid > 1 && !all.iter().any(|s| s.pid == pid && s.start != start);
        all.iter().filter(move |s| ours && s.session == pid && s.start >= start && !s.is_dead())
    }

    /// Everything of it that lives, daemons included.
    pub(super) fn members(&self, all: &[Stat]) -> Vec<Stat> {
        let mut members: Vec<Stat> = self.in_session(all).copied().collect();
        let outside = all.iter().filter(|s| {
            s.session != self.pid
                && s.start >= self.start
                && !s.is_dead()
                && carries(s.pid, &self.id)
        });
        members.extend(outside);
        members
    }

    /// Sends a signal to all of it, once to each process. `leader` says that the leader was not
    /// reaped yet: then its group's number is certainly its own, and the signal reaches also
    /// what is being forked at this moment.
    pub(super) fn signal(&self, members: &[Stat], leader: bool, signal: Signal) {
        let leader = leader && self.pid > 1;
        if leader
            && let Err(error) = killpg(Pid::from_raw(self.pid), signal)
            && error != Errno::ESRCH
        {
            tracing::warn!(instance = &*self.id, %signal, %error, "cannot signal a process group");
        }
        for member in members.iter().filter(|m| !(leader && m.group == self.pid)) {
            // The descriptor pins the process; then it is looked at again, so that a number
            // that was used again since the scan is not hit.
            let Ok(pidfd) = sys::pidfd_open(member.pid) else { continue };
            if Stat::of(member.pid).is_some_and(|now| now.start == member.start) {
                let _ = sys::pidfd_signal(pidfd.as_fd(), signal as i32);
            }
        }
    }
}

fn carries(pid: i32, id: &InstanceId) -> bool {
    procfs::variable(pid, ID_VARIABLE).is_some_and(|found| *found == **id)
}
