//! Notices that a configuration or certificate file changed.
//!
//! Folders are watched, not files: Kubernetes and careful editors put a new file or symlink in
//! the place of the old one. Much else happens in such folders (logs, state), so an event only
//! makes us look: it counts if a file is really another one than before.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::include;

/// A file, or a pattern of `include`, and what it was like when it was read. A change between
/// the reading and the watching is noticed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub path: PathBuf,
    print: Print,
}

/// Quiet time after the last event before we look.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// We look after this in any case: a log in the same folder may never be quiet.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches the files of a configuration.
pub struct Watch {
    watcher: RecommendedWatcher,
    events: mpsc::Receiver<()>,
    folders: BTreeSet<PathBuf>,
    files: Vec<Seen>,
    /// When to look, and at the latest, after an event.
    look_at: Option<(Instant, Instant)>,
}

/// By what a file is told from its successor.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Print {
    /// Where it really is; its time, length and number there, if it is there.
    File(PathBuf, Option<(SystemTime, u64, u64)>),
    /// What matches the pattern. The files themselves are watched as such.
    Matches(Vec<PathBuf>),
}

impl Seen {
    /// As it is now; to be taken before it is read.
    pub fn now(path: PathBuf) -> Self {
        let print = match include::is_pattern(&path) {
            true => Print::Matches(include::matches(&path)),
            false => {
                let real = path.canonicalize().unwrap_or_else(|_| path.clone());
                let meta = std::fs::metadata(&real).ok();
                let print = meta.and_then(|m| Some((m.modified().ok()?, m.len(), m.ino())));
                Print::File(real, print)
            }
        };
        Self { path, print }
    }

    fn is_as_it_was(&self) -> bool {
        Self::now(self.path.clone()) == *self
    }
}

impl Watch {
    /// Starts to watch; `files` are those of [`super::Loaded`], patterns included.
    ///
    /// # Errors
    /// When the system gives no watch (`fs.inotify.max_user_instances`).
    pub fn new(files: Vec<Seen>) -> notify::Result<Self> {
        // One place is enough: an event only says that it is time to look.
        let (tell, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |_| {
            let _ = tell.try_send(());
        })?;
        let mut watch =
            Self { watcher, events, folders: BTreeSet::new(), files: Vec::new(), look_at: None };
        watch.retarget(files);
        Ok(watch)
    }

    /// Watches these files instead, after a reload. What has changed since they were read is
    /// noticed at once; a folder that cannot be watched is left out.
    pub fn retarget(&mut self, files: Vec<Seen>) {
        let folders: BTreeSet<_> = files.iter().flat_map(|file| folders_of(&file.path)).collect();
        self.files = files;
        for gone in self.folders.difference(&folders) {
            let _ = self.watcher.unwatch(gone);
        }
        self.folders.retain(|folder| folders.contains(folder));
        for folder in folders {
            if !self.folders.contains(&folder)
                && self.watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok()
            {
                self.folders.insert(folder);
            }
        }
        let now = Instant::now();
        self.look_at.get_or_insert((now + DEBOUNCE, now + PATIENCE));
    }

    /// Resolves once a file changed and then nothing happened for 200 ms. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            match self.look_at {
                None => match self.events.recv().await {
                    Some(()) => {
                        let now = Instant::now();
                        self.look_at = Some((now + DEBOUNCE, now + PATIENCE));
                    }
                    // The sender lives in `self.watcher`.
                    None => return std::future::pending().await,
                },
                Some((at, latest)) => {
                    tokio::select! {
                        Some(()) = self.events.recv() => {
                            self.look_at = Some(((Instant::now() + DEBOUNCE).min(latest), latest));
                        }
                        () = tokio::time::sleep_until(at) => {
                            self.look_at = None;
                            if !self.files.iter().all(Seen::is_as_it_was) {
                                self.files = self.files.drain(..).map(|f| Seen::now(f.path)).collect();
                                return;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The folder that names a file, and the one that it really is in.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let mut named = file.parent();
    while let Some(folder) = named.filter(|folder| include::is_pattern(folder)) {
        named = folder.parent();
    }
    let named = match named {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let real = file.canonicalize().ok().and_then(|real| real.parent().map(Path::to_owned));
    std::iter::once(named).chain(real).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(files: &[PathBuf]) -> Vec<Seen> {
        files.iter().cloned().map(Seen::now).collect()
    }

    async fn within_a_minute(watch: &mut Watch) {
        tokio::time::timeout(Duration::from_secs(60), watch.changed()).await.expect("a change");
    }

    #[tokio::test]
    async fn a_replaced_file_a_swapped_symlink_and_a_new_match_count() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("t.toml"), "a").expect("write");
        for (folder, text) in [("one", "1"), ("two", "2")] {
            std::fs::create_dir(at(folder)).expect("mkdir");
            std::fs::write(at(folder).join("data"), text).expect("write");
        }
        std::os::unix::fs::symlink("one", at("..data")).expect("symlink");
        std::os::unix::fs::symlink("..data/data", at("c.toml")).expect("symlink");
        let mut watch = Watch::new(seen(&[at("t.toml"), at("c.toml"), at("conf*").join("*.toml")]))
            .expect("a watch");

        std::fs::write(at("new"), "longer").expect("write");
        std::fs::rename(at("new"), at("t.toml")).expect("rename");
        within_a_minute(&mut watch).await;

        std::os::unix::fs::symlink("two", at("..new")).expect("symlink");
        std::fs::rename(at("..new"), at("..data")).expect("rename");
        within_a_minute(&mut watch).await;

        std::fs::create_dir(at("confd")).expect("mkdir");
        std::fs::write(at("confd").join("x.toml"), "").expect("write");
        within_a_minute(&mut watch).await;
    }

    #[tokio::test]
    async fn other_files_in_the_folder_do_not_count() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("t.toml");
        std::fs::write(&file, "a").expect("write");
        let mut watch = Watch::new(seen(std::slice::from_ref(&file))).expect("a watch");
        std::fs::write(dir.path().join("access.log"), "x").expect("write");
        let event = tokio::time::timeout(Duration::from_secs(60), watch.events.recv());
        assert_eq!(event.await, Ok(Some(())));
        assert!(watch.files.iter().all(Seen::is_as_it_was));
    }

    #[tokio::test]
    async fn a_change_after_the_reading_and_before_the_watching_counts() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("t.toml");
        std::fs::write(&file, "a").expect("write");
        let read = seen(std::slice::from_ref(&file));
        std::fs::write(&file, "longer").expect("write");
        let mut watch = Watch::new(read).expect("a watch");
        within_a_minute(&mut watch).await;
    }
}
