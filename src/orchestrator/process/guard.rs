//! The guard of `on_crash = "stop"`: a second process that ends backends if tidegate dies.
//!
//! It is tidegate itself, run as `tidegate __guard` with a socket as its standard input. It is
//! told which instances there are; when the socket closes without a goodbye, tidegate is dead,
//! and the guard stops their groups (signal, grace, kill) and ends. The kernel's own means,
//! PR_SET_PDEATHSIG, follows the thread that forked and not the process, so it cannot be used.
//!
//! An embedder whose binary is not tidegate calls [`run_guard_if_asked`] first in its `main`,
//! or names another program with [`super::ProcessFactory::guard`].

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::group::Group;
use super::procfs;
use super::{spawn, sys};

/// The hidden subcommand.
pub const GUARD_ARGUMENT: &str = "__guard";
/// What a guard says first, so that another program is not taken for one.
const READY: &str = "tidegate guard 1";
const PATIENCE: Duration = Duration::from_secs(5);

/// Our end of a running guard.
#[derive(Debug)]
pub(super) struct Guard {
    socket: UnixStream,
    pid: i32,
    pidfd: OwnedFd,
}

impl Guard {
    /// Starts a guard and waits until it has said that it is one.
    pub(super) fn start(command: &[OsString], stop: Signal, grace: Duration) -> io::Result<Self> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| io::Error::other("no guard command"))?;
        let (ours, theirs) = UnixStream::pair()?;
        let mut guard = Command::new(program);
        guard.args(arguments).stdin(OwnedFd::from(theirs));
        guard.stdout(Stdio::null()).stderr(Stdio::null());
        // What a service manager tells tidegate is for tidegate alone; backends get none of it anyway.
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].iter().chain(&[
            "LISTEN_PID",
            "LISTEN_FDS",
            "LISTEN_FDNAMES",
        ]) {
            guard.env_remove(variable);
        }
        spawn::detach(&mut guard, None);
        let pid = guard.spawn()?.id() as i32;
        drop(guard); // and with it their end of the socket
        let mut guard = Self { socket: ours, pid, pidfd: sys::pidfd_open(pid)? };
        guard.greet(stop, grace).map_err(|error| {
            let _ = sys::pidfd_signal(guard.pidfd.as_fd(), Signal::SIGKILL as i32);
            let _ = waitpid(Pid::from_raw(pid), None);
            io::Error::other(format!("{} is not a guard ({error})", program.to_string_lossy()))
        })?;
        Ok(guard)
    }

    fn greet(&mut self, stop: Signal, grace: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(self.socket.try_clone()?).read_line(&mut line)?;
        if line.trim_end() != READY {
            return Err(io::Error::other("it did not say that it is one"));
        }
        self.socket.set_write_timeout(Some(PATIENCE))?;
        writeln!(self.socket, "stop {} {}", stop as i32, grace.as_millis())
    }

    /// Tells it of an instance; the pid is 0 while it is being started.
    pub(super) fn add(&mut self, group: &Group) -> io::Result<()> {
        writeln!(self.socket, "+ {} {} {}", group.pid, group.start, group.id)
    }

    /// An instance is gone.
    pub(super) fn forget(&mut self, id: &str) -> io::Result<()> {
        writeln!(self.socket, "- {id}")
    }

    /// Whether it still runs. Reaps it if not.
    pub(super) fn lives(&self) -> bool {
        let dead = sys::poll(&[self.pidfd.as_fd()], Some(Duration::ZERO));
        let dead = dead.is_ok_and(|ready| ready == [true]);
        if dead {
            let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        }
        !dead
    }

    /// Lets it go without ending anything.
    pub(super) fn dismiss(mut self) {
        let _ = writeln!(self.socket, "bye");
        let _ = sys::poll(&[self.pidfd.as_fd()], Some(PATIENCE));
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
    }
}

/// Runs as a guard if the first argument says so, and then does not return.
pub fn run_guard_if_asked() {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == GUARD_ARGUMENT) {
        guard_main()
    }
}

/// The whole life of a guard; standard input is the socket to tidegate.
pub fn guard_main() -> ! {
    let code = match watch() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("tidegate {GUARD_ARGUMENT} is run by tidegate itself: {error}");
            2
        }
    };
    std::process::exit(code)
}

fn watch() -> io::Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr()?; // an error if it is no socket
    spawn::ignore_requests_to_end();
    writeln!(socket, "{READY}")?;
    let (mut groups, mut stop, mut grace) = (Vec::new(), Signal::SIGTERM, Duration::ZERO);
    for line in BufReader::new(socket).lines() {
        let Ok(line) = line else { break };
        let mut words = line.split(' ');
        match words.next() {
            Some("bye") => return Ok(()),
            Some("stop") => {
                let number = |word: Option<&str>| word.and_then(|w| w.parse::<u64>().ok());
                let signal = number(words.next()).and_then(|n| Signal::try_from(n as i32).ok());
                stop = signal.unwrap_or(stop);
                grace = Duration::from_millis(number(words.next()).unwrap_or(0));
            }
            Some("-") => groups.retain(|group: &Group| words.clone().all(|id| *id != *group.id)),
            Some("+") => {
                let fields: Vec<&str> = words.collect();
                if let [pid, start, id] = fields[..]
                    && let (Ok(pid), Ok(start)) = (pid.parse(), start.parse())
                {
                    groups.retain(|group| *group.id != *id);
                    groups.push(Group { id: id.into(), pid, start });
                }
            }
            _ => {}
        }
    }
    end(&groups, stop, grace);
    Ok(())
}

/// Ends all groups: the signal, the grace, then kill until nothing is left.
fn end(groups: &[Group], stop: Signal, grace: Duration) {
    let kill_at = Instant::now() + grace;
    let give_up = kill_at + Duration::from_secs(10);
    for group in groups {
        group.signal(&group.members(&procfs::all()), group.leader_lives(), stop);
    }
    let mut pause = Duration::from_millis(5);
    while Instant::now() < give_up {
        let all = procfs::all();
        let mut left = groups.iter().map(|g| (g, g.members(&all))).filter(|(_, m)| !m.is_empty());
        let kill = Instant::now() >= kill_at;
        let Some(first) = left.next() else { return };
        for (group, members) in std::iter::once(first).chain(left).filter(|_| kill) {
            group.signal(&members, group.leader_lives(), Signal::SIGKILL);
        }
        // Nothing can be waited for here: they are nobody's children that we know.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
