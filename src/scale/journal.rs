//! The newest records in memory, and the lines in which they are kept.
//!
//! A line is one JSON object: a record, or the outcome of an earlier one. Files are left to
//! `journal_file`.

use std::collections::VecDeque;
use std::io;

use serde::{Deserialize, Serialize};

use super::record::{Outcome, Record};

pub use super::journal_file::{JournalFile, ReadBack};

/// The newest records of one service in memory.
#[derive(Debug)]
pub struct Journal {
    records: VecDeque<Record>,
    capacity: usize,
    next_seq: u64,
}

/// Takes finished lines (without the line end). The control plane may hand them to another
/// thread; the scaler never waits for it.
pub trait Sink {
    fn write(&mut self, line: &str) -> io::Result<()>;
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Record(Box<Record>),
    /// The outcome of the record with that seq.
    Outcome {
        seq: u64,
        outcome: Outcome,
    },
}

impl Journal {
    /// Keeps at most `capacity` records.
    pub fn new(capacity: usize) -> Self {
        Self { records: VecDeque::new(), capacity: capacity.max(1), next_seq: 1 }
    }

    /// Adds the newest; the oldest goes when there are too many.
    pub fn push(&mut self, record: Record) {
        self.next_seq = self.next_seq.max(record.seq + 1);
        if self.records.len() == self.capacity {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Fills in the outcome of a record that is still here.
    pub fn amend(&mut self, seq: u64, outcome: Outcome) {
        if let Some(record) = self.records.iter_mut().rev().find(|record| record.seq == seq) {
            record.outcome = Some(outcome);
        }
    }

    /// Newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().rev()
    }

    /// Seq for the next record.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }
}

/// The line of a record, for a [`Sink`].
pub fn record_line(record: &Record) -> String {
    line(&Line::Record(Box::new(record.clone())))
}

/// The line of an outcome that came later.
pub fn outcome_line(seq: u64, outcome: &Outcome) -> String {
    line(&Line::Outcome { seq, outcome: *outcome })
}

fn line(line: &Line) -> String {
    serde_json::to_string(line).expect("records have string keys and no failing parts")
}
