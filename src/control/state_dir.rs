//! `runtime.state_dir`: made if need be, and locked, so that two tidegates never share one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The locked directory; the lock lasts as long as the value (and no longer than the process).
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// The lock belongs to the open file, so a process that gets the descriptor holds it as well.
    lock: File,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error("state_dir {}: {error}", .path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error(
        "state_dir {} is in use by another tidegate{}; give each its own runtime.state_dir",
        .path.display(), .pid.as_ref().map_or(String::new(), |p| format!(" (pid {p})"))
    )]
    InUse { path: PathBuf, pid: Option<String> },
}

impl StateDir {
    /// # Errors
    /// The directory cannot be made or written, or another tidegate holds it.
    pub fn lock(path: &Path) -> Result<Self, StateDirError> {
        let io = |error| StateDirError::Io { path: path.to_owned(), error };
        // Only the folder itself is private: another user that is dropped to must get there.
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).map_err(io)?;
        }
        fs::DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(io)?;
        let file = path.join("lock");
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file);
        let lock = open.map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {
                let locked = Self { path: path.to_owned(), lock };
                locked.sign().map_err(io)?;
                Ok(locked)
            }
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&file).ok().map(|p| p.trim().to_owned());
                Err(StateDirError::InUse {
                    path: path.to_owned(),
                    pid: pid.filter(|p| !p.is_empty()),
                })
            }
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// The directory of the tidegate before this one, with its lock.
    pub fn taken_over(path: &Path, lock: OwnedFd) -> Self {
        Self { path: path.to_owned(), lock: lock.into() }
    }

    /// Writes our number into the lock file. It is for people; the lock is what counts.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn sign(&self) -> std::io::Result<()> {
        let mut lock = &self.lock;
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        writeln!(lock, "{}", std::process::id())
    }

    /// The lock, for the process that takes over.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn spare(&self) -> std::io::Result<OwnedFd> {
        Ok(self.lock.try_clone()?.into())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tidegate_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = StateDir::lock(&path).unwrap();
        let Err(second) = StateDir::lock(&path) else { panic!("locked twice") };
        let text = second.to_string();
        assert!(text.contains("in use"), "{text}");
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        drop(first);
        StateDir::lock(&path).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(StateDir::lock(&path), Err(StateDirError::Io { .. })));
    }
}
