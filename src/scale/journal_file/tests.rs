//! The journal through restarts, rotations and crashes.

use super::*;
use crate::scale::fixture::{concurrency, quick, sample, scaler};
use crate::scale::journal::{Journal, learned_line, outcome_line, record_line};
use crate::scale::record::Outcome;

fn record(seq: u64) -> Record {
    let mut params = quick();
    params.concurrency = concurrency(4.0, 0.7);
    let record = scaler(params).tick(&sample(1, 2, 17.3)).record.expect("a change");
    Record { seq, ..record }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn what_is_written_is_read_back_with_its_outcome() {
    let folder = folder();
    let path = folder.path().join("journal/app.jsonl");
    let mut file = JournalFile::open(path.clone(), 1 << 20, 3).expect("a file");
    file.write(&record_line(&record(1))).expect("written");
    file.write(&record_line(&record(2))).expect("written");
    let outcome = Outcome { time_to_ready_ms: Some(310), ready: 7, ..Outcome::default() };
    file.write(&outcome_line(1, &outcome)).expect("written");
    let found = JournalFile::read_back(&path, 3, 100).expect("read");
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.records, [Record { outcome: Some(outcome), ..record(1) }, record(2)]);
}

#[test]
fn a_torn_last_line_is_told_and_harms_nothing() {
    let folder = folder();
    let path = folder.path().join("app.jsonl");
    let line = record_line(&record(1));
    std::fs::write(&path, format!("{line}\n{}", &line[..40])).expect("written");
    let mut file = JournalFile::open(path.clone(), 1 << 20, 3).expect("a file");
    file.write(&record_line(&record(2))).expect("written");
    let found = JournalFile::read_back(&path, 3, 100).expect("read");
    assert_eq!(found.records.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(found.problems.len(), 1);
    assert!(found.problems[0].starts_with("app.jsonl:2: not a record"), "{:?}", found.problems);
}

#[test]
fn files_are_bounded_in_size_and_number() {
    let folder = folder();
    let path = folder.path().join("app.jsonl");
    let bytes = record_line(&record(1)).len() as u64 * 3;
    let mut file = JournalFile::open(path.clone(), bytes, 3).expect("a file");
    for seq in 1..=50 {
        file.write(&record_line(&record(seq))).expect("written");
    }
    let files: Vec<u64> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").len())
        .collect();
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|size| *size <= bytes), "{files:?}");
    let found = JournalFile::read_back(&path, 3, 4).expect("read");
    assert_eq!(found.records.iter().map(|r| r.seq).collect::<Vec<_>>(), [47, 48, 49, 50]);
}

#[test]
fn no_file_is_an_empty_journal() {
    let found = JournalFile::read_back(&folder().path().join("none.jsonl"), 3, 4).expect("read");
    assert!(found.records.is_empty() && found.problems.is_empty());
}

#[test]
fn the_ring_forgets_the_oldest_and_counts_on() {
    let mut journal = Journal::new(2);
    for seq in 5..=7 {
        journal.push(record(seq));
    }
    journal.amend(7, Outcome { ready: 3, ..Outcome::default() });
    assert_eq!(journal.newest().map(|r| r.seq).collect::<Vec<_>>(), [7, 6]);
    assert_eq!(journal.newest().next().and_then(|r| r.outcome).map(|o| o.ready), Some(3));
    assert_eq!(journal.next_seq(), 8);
}

#[test]
fn what_was_learned_last_is_found_again() {
    let folder = folder();
    let path = folder.path().join("app.jsonl");
    let mut file = JournalFile::open(path.clone(), 1 << 20, 3).expect("a file");
    let kept = |at, pace| Kept {
        at: crate::scale::Wall(at),
        of: "backends".to_owned(),
        learned: crate::scale::Learned {
            service_time: 0.0812,
            quantile: 0.2,
            pace,
            limited: true,
            lead_time: None,
        },
    };
    for (at, pace) in [(1_700_000_000_000, 40.0), (1_700_000_060_000, 48.5)] {
        file.write(&learned_line(&kept(at, pace))).expect("written");
        file.write(&record_line(&record(at))).expect("written");
    }
    let found = JournalFile::read_back(&path, 3, 100).expect("read");
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.learned, Some(kept(1_700_000_060_000, 48.5)));
    assert_eq!(found.records.len(), 2);
}
