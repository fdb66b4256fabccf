//! Decisions on their way to disk: a bounded channel to one thread, so that a full or slow disk
//! costs records on disk and never a tick. Format and rotation are left to `scale::journal`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::scale::cost::{self, Hour, Ledger};
use crate::scale::journal::{learned_line, operator_line, outcome_line, record_line};
use crate::scale::record::{Outcome, Record};
use crate::scale::season::{self, Window};
use crate::scale::{Journal, JournalFile, Kept, Override, Sink, Wall};

use super::cost::Books;
use super::scaling::JOURNAL;

/// Lines that may wait for the disk.
const QUEUE: usize = 1024;
/// Bytes of one file, and how many there are with the rotated ones.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
const FILES: usize = 4;

/// Writes for one service.
#[derive(Debug, Clone)]
pub struct Scribe {
    path: PathBuf,
    lines: SyncSender<(PathBuf, String)>,
}

/// The thread that writes, and where.
#[derive(Debug, Clone)]
pub struct Scribes {
    folder: PathBuf,
    lines: SyncSender<(PathBuf, String)>,
}

impl Scribes {
    /// Starts the thread; it ends with the last scribe.
    ///
    /// # Errors
    /// The folder cannot be made, or there is no thread to be had.
    pub fn start(state_dir: &Path) -> std::io::Result<Self> {
        let folder = state_dir.join("journal");
        std::fs::create_dir_all(&folder)?;
        let (lines, queue) = sync_channel(QUEUE);
        std::thread::Builder::new().name("journal".into()).spawn(move || write(&queue))?;
        Ok(Self { folder, lines })
    }

    /// The journal of a service as it was left, and who continues it.
    pub fn open(&self, service: &Arc<str>) -> (Journal, Scribe) {
        let path = self.folder.join(format!("{service}.jsonl"));
        let mut journal = Journal::new(JOURNAL);
        match JournalFile::read_back(&path, FILES, JOURNAL) {
            Ok(back) => {
                for problem in back.problems {
                    tracing::warn!("journal: {problem}");
                }
                journal.operator = back.operator;
                journal.learned = back.learned;
                for record in back.records {
                    journal.push(record);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("journal {}: {error}", path.display()),
        }
        (journal, Scribe { path, lines: self.lines.clone() })
    }

    /// Who writes down what arrives at a service.
    pub fn recording(&self, service: &Arc<str>) -> Scribe {
        let path = self.folder.with_file_name("record").join(format!("{service}.csv"));
        Scribe { path, lines: self.lines.clone() }
    }

    /// The books of a service's costs as they were left, and who continues them.
    pub fn books(&self, service: &Arc<str>) -> Books {
        let path = self.folder.with_file_name("cost").join(format!("{service}.jsonl"));
        let files: Vec<_> = JournalFile::paths(&path, FILES).collect();
        let hours = match cost::read_back(files.iter().map(PathBuf::as_path)) {
            Ok((hours, 0)) => hours,
            Ok((hours, bad)) => {
                tracing::warn!("{}: {bad} lines are no hours; left out", path.display());
                hours
            }
            Err(error) => {
                tracing::warn!("{}: {error}", path.display());
                Vec::new()
            }
        };
        let scribe = Some(Scribe { path, lines: self.lines.clone() });
        Books { ledger: Ledger::new(hours), scribe }
    }
}

impl Scribes {
    /// What came at a service in the days before, and who continues it.
    pub fn season(&self, service: &Arc<str>) -> (Vec<Window>, Scribe) {
        let path = self.folder.with_file_name("season").join(format!("{service}.jsonl"));
        let files: Vec<_> = JournalFile::paths(&path, FILES).collect();
        let windows =
            season::read_back(files.iter().map(PathBuf::as_path)).unwrap_or_else(|error| {
                tracing::warn!("{}: {error}", path.display());
                Vec::new()
            });
        (windows, Scribe { path, lines: self.lines.clone() })
    }
}

impl Scribe {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Requests of one second, for a trace.
    pub fn row(&self, second: u64, requests: u64) {
        self.send(format!("{second},{requests}"));
    }

    /// What came in a window of 5 minutes.
    pub fn window(&self, window: &Window) {
        self.send(season::line(window));
    }

    pub fn hour(&self, hour: &Hour) {
        self.send(cost::line(hour));
    }

    pub fn record(&self, record: &Record) {
        self.send(record_line(record));
    }

    pub fn outcome(&self, seq: u64, outcome: &Outcome) {
        self.send(outcome_line(seq, outcome));
    }

    pub fn learned(&self, learned: &Kept) {
        self.send(learned_line(learned));
    }

    /// `operator`: with moments in µs since 1970.
    pub fn operator(&self, ordered: Wall, operator: Option<Override>) {
        self.send(operator_line(ordered, operator));
    }

    fn send(&self, line: String) {
        if self.lines.try_send((self.path.clone(), line)).is_err() {
            tracing::warn!(
                "journal {}: a record was dropped, the disk is behind",
                self.path.display()
            );
        }
    }
}

fn write(queue: &Receiver<(PathBuf, String)>) {
    let mut files: HashMap<PathBuf, JournalFile> = HashMap::new();
    while let Ok((path, line)) = queue.recv() {
        let result = match files.get_mut(&path) {
            Some(file) => file.write(&line),
            None => JournalFile::open(path.clone(), FILE_BYTES, FILES).and_then(|mut file| {
                let result = file.write(&line);
                files.insert(path.clone(), file);
                result
            }),
        };
        if let Err(error) = result {
            tracing::warn!("journal {}: {error}", path.display());
        }
    }
}
