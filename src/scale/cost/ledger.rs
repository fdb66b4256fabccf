//! Backend-hours by the hour, in memory and as lines of a file.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scale::Wall;

/// In milliseconds.
const HOUR: u64 = 3_600_000;
/// Hours that are kept: 400 days.
const KEPT: usize = 400 * 24;
/// The present hour is written this often, so that a crash loses no more.
const WRITTEN_EVERY: u64 = 300_000;

/// What one hour came to; numbers of backends are integrals over its time, in backend-seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Hour {
    /// When it began (UTC, a whole hour).
    pub start: Wall,
    /// Seconds of it that were seen.
    pub seen: f64,
    /// Everything that was there: ready, starting, draining, broken.
    pub ran: f64,
    /// Had there always been `max`.
    pub most: f64,
    /// Had there been what the load of each moment needed, and no less than `min`.
    pub least: f64,
    /// Seconds in which `max` or more were needed.
    pub at_max: f64,
    pub requests: f64,
    /// The largest need, not below `min`.
    pub peak: u32,
    /// The largest need as it was, also where it is below `min`.
    pub demand: u32,
    /// The most that one backend used, where the orchestrator tells: cores (means of a few seconds), and bytes.
    #[serde(default)]
    pub cores: f64,
    #[serde(default)]
    pub memory: u64,
}

/// What a tick adds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    pub span: Duration,
    pub running: u32,
    /// What the load needs at this moment; `None` where nobody can tell: then it is what runs.
    pub needs: Option<u32>,
    pub min: u32,
    pub max: u32,
    pub requests: f64,
    /// Of the backend that uses the most now: cores, and bytes of memory.
    pub used: (f64, u64),
}

/// The hours of one service, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    hours: VecDeque<Hour>,
    written: u64,
}

impl Ledger {
    /// From what was read back, oldest first.
    pub fn new(hours: impl IntoIterator<Item = Hour>) -> Self {
        let mut ledger = Self::default();
        hours.into_iter().for_each(|hour| ledger.put(hour));
        ledger
    }

    /// Adds a tick that ended at `now`; what is to be written, if something is.
    pub fn add(&mut self, now: Wall, spent: &Spent) -> Option<Hour> {
        let start = Wall(now.0 / HOUR * HOUR);
        let ended = self.hours.back().filter(|last| last.start < start).copied();
        // A clock that was set back adds to the newest hour there is.
        if self.hours.back().is_none_or(|last| last.start < start) {
            self.put(Hour { start, ..Hour::default() });
        }
        let hour = self.hours.back_mut()?;
        hour.add(spent);
        let present = *hour;
        if let Some(ended) = ended {
            self.written = now.0;
            return Some(ended);
        }
        if now.0 < self.written || now.0 - self.written >= WRITTEN_EVERY {
            self.written = now.0;
            return Some(present);
        }
        None
    }

    /// The hour that is under way, for the last line at the end.
    pub fn present(&self) -> Option<&Hour> {
        self.hours.back()
    }

    /// Hours that began at or after `since`, oldest first.
    pub fn since(&self, since: Wall) -> impl Iterator<Item = &Hour> {
        let first = self.hours.partition_point(|hour| hour.start < since);
        self.hours.range(first..)
    }

    /// A newer line of an hour replaces an older one.
    fn put(&mut self, hour: Hour) {
        match self.hours.back_mut() {
            Some(last) if last.start == hour.start => *last = hour,
            Some(last) if last.start > hour.start => {}
            _ => self.hours.push_back(hour),
        }
        if self.hours.len() > KEPT {
            self.hours.pop_front();
        }
    }
}

impl Hour {
    fn add(&mut self, spent: &Spent) {
        let seconds = spent.span.as_secs_f64();
        let demand = spent.needs.unwrap_or(spent.running);
        let needed = demand.max(spent.min).min(spent.max);
        self.seen += seconds;
        self.ran += f64::from(spent.running) * seconds;
        self.most += f64::from(spent.max) * seconds;
        self.least += f64::from(needed) * seconds;
        if demand >= spent.max {
            self.at_max += seconds;
        }
        self.requests += spent.requests;
        self.peak = self.peak.max(needed);
        self.demand = self.demand.max(demand);
        self.cores = self.cores.max(spent.used.0);
        self.memory = self.memory.max(spent.used.1);
    }

    /// The sum of several; its start is the first one's.
    pub fn sum<'h>(hours: impl Iterator<Item = &'h Self>) -> Self {
        hours.fold(Self::default(), |sum, hour| Self {
            start: if sum.seen > 0.0 { sum.start } else { hour.start },
            seen: sum.seen + hour.seen,
            ran: sum.ran + hour.ran,
            most: sum.most + hour.most,
            least: sum.least + hour.least,
            at_max: sum.at_max + hour.at_max,
            requests: sum.requests + hour.requests,
            peak: sum.peak.max(hour.peak),
            demand: sum.demand.max(hour.demand),
            cores: sum.cores.max(hour.cores),
            memory: sum.memory.max(hour.memory),
        })
    }
}

/// The line of an hour.
pub fn line(hour: &Hour) -> String {
    serde_json::to_string(hour).expect("numbers and a time")
}

/// The hours of files, the oldest file first; lines that are none are left out and counted.
pub fn read_back<'p>(files: impl Iterator<Item = &'p Path>) -> std::io::Result<(Vec<Hour>, usize)> {
    let (mut hours, mut bad) = (Vec::new(), 0);
    for path in files {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            match serde_json::from_slice(&line) {
                Ok(hour) => hours.push(hour),
                Err(_) => bad += usize::from(!line.is_empty()),
            }
        }
    }
    Ok((hours, bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn spent(running: u32, needs: Option<u32>) -> Spent {
        Spent { span: SECOND, running, needs, min: 2, max: 10, requests: 5.0, used: (0.1, 7) }
    }

    #[test]
    fn hours_are_integrals_and_are_written_when_they_end() {
        let mut ledger = Ledger::default();
        let mut written = Vec::new();
        // An hour with 4 that needs 1, then half an hour with 12 draining from 12 that needs 11.
        for second in 0..5400u64 {
            let (running, needs) = if second < 3600 { (4, 1) } else { (12, 11) };
            let now = Wall(500 * HOUR + second * 1000);
            written.extend(ledger.add(now, &spent(running, Some(needs))));
        }
        let hours: Vec<_> = ledger.since(Wall(0)).copied().collect();
        assert_eq!(hours.len(), 2);
        let first = Hour {
            start: Wall(500 * HOUR),
            seen: 3600.0,
            ran: 4.0 * 3600.0,
            most: 10.0 * 3600.0,
            least: 2.0 * 3600.0,
            at_max: 0.0,
            requests: 5.0 * 3600.0,
            peak: 2,
            demand: 1,
            cores: 0.1,
            memory: 7,
        };
        assert_eq!(hours[0], first);
        assert_eq!(
            (hours[1].ran, hours[1].least, hours[1].at_max),
            (12.0 * 1800.0, 18_000.0, 1800.0)
        );
        assert_eq!((hours[1].peak, hours[1].demand), (10, 11));
        assert!(written.contains(&first), "as a whole when it is over");
        assert_eq!(written.len(), 12 + 1 + 5, "and every five minutes before");
        assert_eq!(ledger.since(Wall(501 * HOUR)).count(), 1);
        let sum = Hour::sum(hours.iter());
        assert_eq!((sum.start, sum.seen, sum.demand), (Wall(500 * HOUR), 5400.0, 11));
        // What was written is what is read back, the last line of an hour being the one that counts.
        written.push(*ledger.present().expect("an hour"));
        assert_eq!(Ledger::new(written).hours, ledger.hours);
    }

    #[test]
    fn without_a_need_it_is_what_runs_and_a_clock_set_back_loses_nothing() {
        let mut ledger = Ledger::default();
        ledger.add(Wall(9 * HOUR), &spent(3, None));
        ledger.add(Wall(8 * HOUR), &spent(3, None));
        let hours: Vec<_> = ledger.since(Wall(0)).collect();
        assert_eq!(hours.len(), 1);
        assert_eq!((hours[0].seen, hours[0].least, hours[0].peak), (2.0, 6.0, 3));
    }

    #[test]
    fn a_torn_line_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.jsonl");
        let hour = Hour { start: Wall(HOUR), seen: 1.0, ran: 2.0, ..Hour::default() };
        std::fs::write(&path, format!("{}\n{{\"start\":", line(&hour))).expect("a file");
        let missing = folder.path().join("none");
        let found = read_back([missing.as_path(), &path].into_iter()).expect("read");
        assert_eq!(found, (vec![hour], 1));
    }

    #[test]
    fn no_more_than_400_days_are_kept() {
        let hour = |n: u64| Hour { start: Wall(n * HOUR), ..Hour::default() };
        let ledger = Ledger::new((0..KEPT as u64 + 5).map(hour));
        assert_eq!(ledger.hours.len(), KEPT);
        assert_eq!(ledger.hours[0].start, Wall(5 * HOUR));
    }
}
