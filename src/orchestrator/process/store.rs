//! What outlives us: which instances were started, so that the next tidegate finds them.
//!
//! One small JSON file per service, replaced as a whole (written aside, synced, renamed), so a
//! crash leaves the old or the new one. An instance is written down before it is started and
//! again with its pid after; one without a pid is looked for by the id in its environment.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// `instances.json`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Of the boot that the pids belong to.
    pub(super) boot: String,
    /// Whether tidegate ended in order and meant them to live on.
    pub(super) kept: bool,
    pub(super) instances: Vec<Record>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    /// 0: written down, but not known to be started.
    pub(super) pid: i32,
    /// Clock ticks since boot.
    pub(super) start: u64,
    pub(super) port: u16,
    /// Milliseconds since 1970.
    pub(super) started_at: u64,
}

/// Reads and writes the file of one service.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Makes the folder.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was saved; nothing if there is no file.
    pub(super) fn load(&self) -> io::Result<Saved> {
        match fs::read(self.path()) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Saved::default()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn save(&self, saved: &Saved) -> io::Result<()> {
        let aside = self.folder.join("instances.json.new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec_pretty(saved)?)?;
        file.sync_all()?;
        fs::rename(&aside, self.path())?;
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self) -> PathBuf {
        self.folder.join("instances.json")
    }
}

/// Wall time as it is saved.
pub(super) fn to_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path().join("app")).expect("made");
        assert_eq!(store.load().expect("none yet"), Saved::default());
        let record =
            Record { id: "app-1".to_owned(), pid: 7, start: 9, port: 20_000, started_at: 5 };
        let saved = Saved { boot: "b".to_owned(), kept: true, instances: vec![record] };
        store.save(&saved).expect("saved");
        assert_eq!(store.load().expect("there"), saved);
        fs::write(store.path(), "{").expect("written");
        assert!(store.load().is_err());
    }
}
