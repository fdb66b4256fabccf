//! What the process may do: enough open files for its connections, and no more rights than it
//! needs once low ports are bound.

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User, chown, geteuid, setgid, setgroups, setuid};

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

/// Changes to `runtime.user` and `runtime.group`, if they are set; `check` warns about a root that stays one.
///
/// # Errors
/// No such user or group, or the change is refused; then the process must not go on.
pub fn drop_rights(runtime: &Runtime, state_dir: &Path) -> Result<(), DropError> {
    if runtime.user.is_none() && runtime.group.is_none() {
        return Ok(());
    }
    if !geteuid().is_root() {
        return Err(DropError::NotRoot);
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
        (None, None) => nix::unistd::getegid(),
    };
    let uid: Option<Uid> = user.map(|u| u.uid);
    own(state_dir, uid, gid).map_err(system("state_dir"))?;
    setgroups(&[gid]).map_err(system("setgroups"))?;
    setgid(gid).map_err(system("setgid"))?;
    if let Some(uid) = uid {
        setuid(uid).map_err(system("setuid"))?;
    }
    Ok(())
}

/// Gives a folder and what is in it to the new user.
fn own(path: &Path, uid: Option<Uid>, gid: Gid) -> nix::Result<()> {
    chown(path, uid, Some(gid))?;
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(()) };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => own(&entry.path(), uid, gid)?,
            // A link is not followed: what it points to is not ours.
            Ok(kind) if kind.is_file() => chown(&entry.path(), uid, Some(gid))?,
            _ => {}
        }
    }
    Ok(())
}
