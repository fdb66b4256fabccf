//! What stands behind several origins and takes one request at a time: a database with one connection, in
//! the form of a file that is locked. Adding origins adds nothing while it is what is full.
//!
//! The lock is the system's (flock), so that origins of different processes share it. It is gone with who
//! holds it, however that ends.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

/// One origin's way to it.
#[derive(Debug)]
pub(super) struct Shared {
    path: PathBuf,
    /// One request of an origin asks the system at a time: each that waits there is a thread.
    turn: Mutex<()>,
}

/// It works on our request; it does no more when dropped.
#[derive(Debug)]
pub(super) struct Locked {
    _file: File,
}

impl Shared {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), turn: Mutex::new(()) }
    }

    /// Waits until it has nothing else to do. Within an origin first come, first served.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub async fn lock(&self) -> io::Result<Locked> {
        let _turn = self.turn.lock().await;
        let path = self.path.clone();
        let locking = tokio::task::spawn_blocking(move || {
            let file = File::options().append(true).create(true).open(path)?;
            file.lock()?;
            Ok(Locked { _file: file })
        });
        locking.await.map_err(io::Error::other)?
    }
}
