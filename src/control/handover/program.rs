//! What is started: the program that is at our path now, with our arguments.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::super::systemd;
use super::VARIABLE;

/// How this process was started. To be asked for early: later its file may be gone, and the kernel
/// knows it by the name of what is deleted.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// # Errors
    /// The path cannot be found out.
    pub fn of_process() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let called = arguments.next().unwrap_or_default();
        let search = env::var_os("PATH").unwrap_or_default();
        // Without a folder to be in only whole paths mean anything.
        let folder = env::current_dir().unwrap_or_default();
        let path = path(&called, &search, &folder, &env::current_exe()?);
        Ok(Self { path, arguments: arguments.collect() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts it with that socket as its standard input.
    ///
    /// # Errors
    /// There is no such program, or no process to be had.
    pub fn start(&self, socket: OwnedFd) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(socket);
        for variable in systemd::OURS {
            // The two of the manager that name no process go on meaning us.
            if !["NOTIFY_SOCKET", "WATCHDOG_USEC"].contains(&variable) {
                command.env_remove(variable);
            }
        }
        command.env(VARIABLE, super::VERSION.to_string()).spawn()
    }
}

/// The path by which the program was called, links and all: where that leads by now is what is to be
/// started. If it does not lead to what runs, the path of that.
fn path(called: &OsString, search: &OsString, folder: &Path, running: &Path) -> PathBuf {
    let called = Path::new(called);
    let candidates: Vec<PathBuf> = match called.components().count() {
        0 => Vec::new(),
        1 if !called.has_root() => {
            env::split_paths(search).map(|at| folder.join(at).join(called)).collect()
        }
        _ => vec![folder.join(called)],
    };
    let is_ours = |path: &PathBuf| path.canonicalize().is_ok_and(|real| real == running);
    candidates.into_iter().find(is_ours).unwrap_or_else(|| running.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_anew_and_names_are_searched_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().canonicalize().expect("it is there");
        let (real, link) = (folder.join("tidegate-1"), folder.join("bin/tidegate"));
        std::fs::create_dir(folder.join("bin")).expect("made");
        std::fs::write(&real, "").expect("written");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        let of = |called: &str, search: &str| {
            path(&called.into(), &search.into(), &folder, &real.canonicalize().expect("there"))
        };
        assert_eq!(of("bin/tidegate", ""), link);
        assert_eq!(of(link.to_str().expect("text"), ""), link);
        let search = format!("/nowhere:{}", folder.join("bin").display());
        assert_eq!(of("tidegate", &search), link);
        // A name that was made up, or that leads elsewhere.
        assert_eq!(of("", &search), real);
        assert_eq!(of("/bin/sh", ""), real);
    }
}
