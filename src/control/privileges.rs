//! What the process may do: enough open files for its connections, and no more rights than it
//! needs once low ports are bound.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, setgid, setgroups, setuid};

use crate::config::types::{Config, Runtime};

/// Descriptors that are not connections: logs, state, processes, the runtime's own.
const SPARE: u64 = 1024;

/// Why rights could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    #[error("runtime.user: there is no user \"{0}\"")]
    NoUser(String),
    #[error("runtime.group: there is no group \"{0}\"")]
    NoGroup(String),
    #[error("runtime.user and runtime.group need root to change to")]
    NotRoot,
    #[error("{what}: {error}")]
    System { what: &'static str, error: nix::Error },
    #[error("state_dir {} cannot be given to runtime.user: {error}", .path.display())]
    NotGiven { path: PathBuf, error: io::Error },
    #[error(
        "state_dir {} cannot be used by runtime.user: {error}; choose another runtime.state_dir, \
         or let that user enter the folders above it",
        .path.display()
    )]
    NotUsable { path: PathBuf, error: io::Error },
}

/// Raises the limit on open files as far as the listeners need and the system allows.
/// `Some` is a warning for people.
pub fn raise_file_limit(config: &Config) -> Option<String> {
    let clients: u64 = config.listeners.iter().map(|l| l.max_connections as u64).sum();
    // Each client may hold one connection to a backend as well.
    let needed = clients.saturating_mul(2).saturating_add(SPARE);
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => return Some(format!("the limit on open files cannot be read: {error}")),
    };
    if soft >= needed {
        return None;
    }
    // Root may raise the hard limit too.
    if setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).is_ok() {
        return None;
    }
    let reached = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    (reached < needed).then(|| {
        format!(
            "{needed} open files are needed for the max_connections of all listeners, \
             the system allows {reached}; raise it (LimitNOFILE=, ulimit -n)"
        )
    })
}

/// Changes to `runtime.user` and `runtime.group`, if they are set; `check` warns about a root that
/// stays one. `state_dir` goes to the new user, and it is tried that it can be used.
///
/// # Errors
/// No such user or group, or the change is refused; then the process must not go on.
pub fn drop_rights(runtime: &Runtime, state_dir: &Path) -> Result<(), DropError> {
    if runtime.user.is_none() && runtime.group.is_none() {
        return Ok(());
    }
    if !geteuid().is_root() {
        // After a hand-over the rights are those that the process before had dropped to.
        return if is_done(runtime) { Ok(()) } else { Err(DropError::NotRoot) };
    }
    let system = |what| move |error| DropError::System { what, error };
    let user = match &runtime.user {
        Some(name) => Some(
            User::from_name(name)
                .map_err(system("runtime.user"))?
                .ok_or_else(|| DropError::NoUser(name.clone()))?,
        ),
        None => None,
    };
    let gid: Gid = match (&runtime.group, &user) {
        (Some(name), _) => {
            Group::from_name(name)
                .map_err(system("runtime.group"))?
                .ok_or_else(|| DropError::NoGroup(name.clone()))?
                .gid
        }
        (None, Some(user)) => user.gid,
        (None, None) => getegid(),
    };
    let uid: Option<Uid> = user.map(|u| u.uid);
    give(state_dir, uid, gid)
        .map_err(|error| DropError::NotGiven { path: state_dir.to_owned(), error })?;
    // The C library changes all threads of the process, not only this one.
    setgroups(&[gid]).map_err(system("setgroups"))?;
    setgid(gid).map_err(system("setgid"))?;
    if let Some(uid) = uid {
        setuid(uid).map_err(system("setuid"))?;
    }
    try_out(state_dir).map_err(|error| DropError::NotUsable { path: state_dir.to_owned(), error })
}

/// Whether this process is the user and of the group already.
fn is_done(runtime: &Runtime) -> bool {
    let user = runtime.user.as_deref().map(|name| User::from_name(name).ok().flatten());
    let group = runtime.group.as_deref().map(|name| Group::from_name(name).ok().flatten());
    user.is_none_or(|user| user.is_some_and(|user| user.uid == geteuid()))
        && group.is_none_or(|group| group.is_some_and(|group| group.gid == getegid()))
}

/// Gives a folder and what is in it to the new user: what root owns, and only that.
///
/// The new user may write there, so nothing is taken by its name twice: each entry is opened
/// without following links, and what has a second name elsewhere is left alone.
fn give(path: &Path, uid: Option<Uid>, gid: Gid) -> io::Result<()> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    let is_ours = found.uid() == 0 && (found.is_dir() || (found.is_file() && found.nlink() == 1));
    if is_ours {
        std::os::unix::fs::fchown(&file, uid.map(Uid::as_raw), Some(gid.as_raw()))?;
    }
    if found.is_dir() {
        let opened = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        for entry in std::fs::read_dir(&opened)? {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_file()) {
                // Gone meanwhile, or swapped for a link: nothing of ours.
                let _ = give(&opened.join(entry.file_name()), uid, gid);
            }
        }
    }
    Ok(())
}

/// Whether files can be made in a folder.
fn try_out(folder: &Path) -> io::Result<()> {
    let probe = folder.join(".probe");
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(probe)
}
