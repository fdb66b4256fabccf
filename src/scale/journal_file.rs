//! The journal on disk: JSON lines, rotated by size, read back at a start.
//!
//! `app.jsonl` is written; `app.jsonl.1` is the one before it, and so on. A crash can tear the
//! last line: it is skipped, told, and ended so that the next line stands on its own.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Override;
use super::journal::{Line, Sink};
use super::learned::Kept;
use super::record::Record;

/// A journal file that is written to.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: File,
    size: u64,
    max_bytes: u64,
    keep: usize,
}

/// What was found at a start.
#[derive(Debug, Default)]
pub struct ReadBack {
    /// Oldest first; outcomes merged in.
    pub records: VecDeque<Record>,
    /// What an operator ordered last; moments in µs since 1970.
    pub operator: Option<Override>,
    /// What was learned last.
    pub learned: Option<Kept>,
    /// Lines that could not be read, for the log: `app.jsonl:12: …`; the first ten.
    pub problems: Vec<String>,
}

impl JournalFile {
    /// Opens or makes it, and its folder. At most `keep` files (this one included), each rotated
    /// before it would grow over `max_bytes`.
    pub fn open(path: PathBuf, max_bytes: u64, keep: usize) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
        let mut size = file.metadata()?.len();
        if is_torn(&mut file, size)? {
            file.write_all(b"\n")?;
            size += 1;
        }
        Ok(Self { path, file, size, max_bytes, keep: keep.max(1) })
    }

    /// The newest `limit` records of the file and its rotated ones; none if there is no file.
    pub fn read_back(path: &Path, keep: usize, limit: usize) -> io::Result<ReadBack> {
        let mut found = ReadBack::default();
        for path in Self::paths(path, keep) {
            match File::open(&path) {
                Ok(file) => found.read(&path, file, limit)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The file and its rotated ones, the oldest first, whether they are there or not.
    pub fn paths(path: &Path, keep: usize) -> impl Iterator<Item = PathBuf> {
        (0..keep.max(1)).rev().map(move |age| rotated(path, age))
    }

    fn rotate(&mut self) -> io::Result<()> {
        for age in (1..self.keep).rev() {
            match fs::rename(rotated(&self.path, age - 1), rotated(&self.path, age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let mut options = OpenOptions::new();
        // With a single file there is nowhere to rename to: it starts over.
        if self.keep == 1 {
            options.write(true).truncate(true);
        } else {
            options.append(true);
        }
        self.file = options.create(true).open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

impl Sink for JournalFile {
    fn write(&mut self, line: &str) -> io::Result<()> {
        let bytes = line.len() as u64 + 1;
        if self.size > 0 && self.size + bytes > self.max_bytes {
            self.rotate()?;
        }
        // One call, so that a crash tears at most this line.
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.size += bytes;
        Ok(())
    }
}

impl ReadBack {
    fn read(&mut self, path: &Path, file: File, limit: usize) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (number, line) in BufReader::new(file).split(b'\n').enumerate() {
            let line = line?;
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(Line::Record(record)) => {
                    if self.records.len() == limit {
                        self.records.pop_front();
                    }
                    self.records.push_back(*record);
                }
                Ok(Line::Outcome { seq, outcome }) => {
                    let record = self.records.iter_mut().rev().find(|record| record.seq == seq);
                    if let Some(record) = record {
                        record.outcome = Some(outcome);
                    }
                }
                Ok(Line::Operator { operator, .. }) => self.operator = operator,
                Ok(Line::Learned(kept)) => self.learned = Some(kept),
                Err(error) if self.problems.len() < 10 => {
                    self.problems.push(format!("{name}:{}: not a record: {error}", number + 1));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// The last line has no end: the writer was killed in the middle of it.
fn is_torn(file: &mut File, size: u64) -> io::Result<bool> {
    if size == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn rotated(path: &Path, age: usize) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
