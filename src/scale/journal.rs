//! Where records are kept: a bounded ring in memory, and a file of JSON lines that outlives us.

use std::io;
use std::path::{Path, PathBuf};

use super::record::{Outcome, Record};

/// The newest records of one service in memory.
#[derive(Debug)]
pub struct Journal {}

/// Takes finished lines (without the line end). The control plane may hand them to another
/// thread; the scaler never waits for it.
pub trait Sink {
    fn write(&mut self, line: &str) -> io::Result<()>;
}

/// `state_dir/journal/SERVICE.jsonl` with rotation by size.
#[derive(Debug)]
pub struct JournalFile {}

/// What was found at a start.
#[derive(Debug, Default)]
pub struct ReadBack {
    /// Oldest first; outcomes merged in.
    pub records: Vec<Record>,
    /// Lines that could not be read, for the log: `shop.jsonl:12: ...`.
    pub problems: Vec<String>,
}

impl Journal {
    /// Keeps at most `capacity` records.
    pub fn new(_capacity: usize) -> Self {
        unimplemented!()
    }
    pub fn push(&mut self, _record: Record) {
        unimplemented!()
    }
    /// Fills in the outcome of a record that is still here.
    pub fn amend(&mut self, _seq: u64, _outcome: Outcome) {
        unimplemented!()
    }
    /// Newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Record> {
        std::iter::empty()
    }
    /// Seq for the next record.
    pub fn next_seq(&self) -> u64 {
        unimplemented!()
    }
}

/// The line of a record, for a [`Sink`].
pub fn record_line(_record: &Record) -> String {
    unimplemented!()
}

/// The line of an outcome that came later.
pub fn outcome_line(_seq: u64, _outcome: &Outcome) -> String {
    unimplemented!()
}

impl JournalFile {
    /// Opens or makes it; nothing is read. At most `keep` files (this one included) of `max_bytes`.
    pub fn open(_path: PathBuf, _max_bytes: u64, _keep: usize) -> io::Result<Self> {
        unimplemented!()
    }
    /// The newest `limit` records of the file and its rotated ones. A torn last line is a problem told, not an error.
    pub fn read_back(_path: &Path, _keep: usize, _limit: usize) -> io::Result<ReadBack> {
        unimplemented!()
    }
}

impl Sink for JournalFile {
    fn write(&mut self, _line: &str) -> io::Result<()> {
        unimplemented!()
    }
}
