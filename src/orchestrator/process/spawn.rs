//! Starting one child so that it keeps nothing of ours and cannot get at us.
//!
//! The child gets its own session (so its own process group, and no terminal whose Ctrl-C
//! would hit it), no new privileges, default signal dispositions and an empty mask, `/dev/null`
//! as its input, only the environment it was promised, its user, and none of our descriptors.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Who the child runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
}

/// Everything about one start.
pub(super) struct Start<'a> {
    /// Program and arguments, already filled in.
    pub(super) command: &'a [String],
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) workdir: Option<&'a Path>,
    pub(super) identity: Option<&'a Identity>,
    /// Where its output goes.
    pub(super) output: &'a File,
}

/// Starts a child and returns its pid. It is not reaped by anyone but the caller.
pub(super) fn spawn(start: &Start<'_>) -> io::Result<i32> {
    let (program, arguments) =
        start.command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(start.env);
    command.stdin(Stdio::null());
    command.stdout(start.output.try_clone()?).stderr(start.output.try_clone()?);
    if let Some(dir) = start.workdir {
        command.current_dir(dir);
    }
    detach(&mut command, start.identity.cloned());
    // Dropping the handle neither waits for nor ends the child.
    Ok(command.spawn()?.id() as i32)
}

/// Makes what is started a session of its own that keeps nothing of ours, as said above.
pub(super) fn detach(command: &mut Command, identity: Option<Identity>) {
    // SAFETY: the closure runs between fork and exec and makes only system calls: it neither
    // allocates nor takes a lock (`identity` was moved in before the fork).
    unsafe { command.pre_exec(move || prepare(identity.as_ref())) };
}

/// For the guard: what asks a process to end is meant for tidegate, not for it.
pub(super) fn ignore_requests_to_end() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT] {
        // SAFETY: SIG_IGN installs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// In the child, before exec. Async-signal-safe only.
fn prepare(identity: Option<&Identity>) -> io::Result<()> {
    // SAFETY (all blocks below): plain system calls on numbers and on memory of this function
    // or of `identity`, which outlive them. The raw setuid family is used because libc's
    // wrappers take locks to reach other threads, and after a fork there are none.
    check(unsafe { libc::setsid() }.into())?;
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is valid for every signal; refusals (KILL, STOP, reserved) are meant.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    if let Some(id) = identity {
        // SAFETY: the pointer and length are those of one live slice of gid_t.
        check(unsafe { libc::syscall(libc::SYS_setgroups, id.groups.len(), id.groups.as_ptr()) })?;
        // SAFETY: numbers only.
        check(unsafe { libc::syscall(libc::SYS_setresgid, id.gid, id.gid, id.gid) })?;
        // SAFETY: numbers only.
        check(unsafe { libc::syscall(libc::SYS_setresuid, id.uid, id.uid, id.uid) })?;
    }
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    close_on_exec()
}

/// Marks every descriptor from 3 up close-on-exec, whoever opened it and how. Not closed here,
/// because std reports a failed exec through one of them.
fn close_on_exec() -> io::Result<()> {
    let flag = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: numbers only.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flag) } == 0 {
        return Ok(());
    }
    // Before Linux 5.11: one by one. What the limit allows, as far as it is a sane number.
    // SAFETY: numbers only.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }.clamp(1024, 1 << 20) as i32;
    for fd in 3..most {
        // SAFETY: a number that is no descriptor is refused with EBADF, which is meant.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
