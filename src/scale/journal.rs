//! The newest records in memory, and the lines in which they are kept.
//!
//! A line is one JSON object: a record, or the outcome of an earlier one, or what else a restart
//! has to know. Files are left to
//! `journal_file`.

use std::collections::VecDeque;
use std::io;

use serde::{Deserialize, Serialize};

use super::Override;
use super::Wall;
use super::learned::Kept;
use super::record::{Outcome, Record};

pub use super::journal_file::{JournalFile, ReadBack};

/// The newest records of one service in memory.
#[derive(Debug)]
pub struct Journal {
    records: VecDeque<Record>,
    capacity: usize,
    next_seq: u64,
    /// What an operator had ordered when the file was left; moments in µs since 1970.
    pub operator: Option<Override>,
    /// What was learned of the backends by then.
    pub learned: Option<Kept>,
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
    /// What an operator ordered, `null`: nothing any more. Moments in µs since 1970.
    Operator {
        ordered: Wall,
        operator: Option<Override>,
    },
    /// What was learned of the backends.
    Learned(Kept),
}

impl Journal {
    /// Keeps at most `capacity` records.
    pub fn new(capacity: usize) -> Self {
        Self {
            records: VecDeque::new(),
            capacity: capacity.max(1),
            next_seq: 1,
            operator: None,
            learned: None,
        }
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

    /// Oldest first.
    pub fn oldest(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
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

/// The line of an operator's order, for a restart.
pub fn operator_line(ordered: Wall, operator: Option<Override>) -> String {
    line(&Line::Operator { ordered, operator })
}

/// The line of what was learned, for a restart.
pub fn learned_line(learned: &Kept) -> String {
    line(&Line::Learned(learned.clone()))
}

fn line(line: &Line) -> String {
    serde_json::to_string(line).expect("records have string keys and no failing parts")
}
