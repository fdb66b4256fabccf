//! A load from a file: requests per bucket of time, or the times at which requests arrived.
//!
//! Two columns are a time and a count: each row's requests are spread over the time until the next
//! row. Times are seconds or dates (`1998-06-30T12:00:00`, `2014-04-10 00:04:00`). One column is arrivals
//! in milliseconds. A first line that is no data is a heading; `#` begins a comment. Dates are taken for UTC; seconds and
//! milliseconds of this century count from 1970, as a recording's do, and are dates too.

use std::fmt;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::load::Load;

/// Longest load, in seconds: a second of it is a few bytes and a decision of every policy.
const LONGEST: f64 = 62.0 * 86_400.0;
/// Seconds from here on (9 September 2001) are those since 1970.
const SINCE_1970: f64 = 1e9;

/// What is wrong with a trace, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceError {
    file: String,
    /// From 1; 0 where it is about the whole file.
    line: usize,
    message: String,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, message } = self;
        if *line == 0 {
            write!(f, "{file}: {message}")
        } else {
            write!(f, "{file}:{line}: {message}")
        }
    }
}

impl std::error::Error for TraceError {}

/// Which part of a trace is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Part {
    pub from: Start,
    /// In seconds; all that follows without it.
    pub length: Option<f64>,
}

/// Where a part begins.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Start {
    #[default]
    Beginning,
    /// Seconds after the beginning.
    After(f64),
    /// A date of the file's.
    At(DateTime),
}

impl std::str::FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse::<DateTime>() {
            return Ok(Self::At(time));
        }
        let after = crate::units::parse_duration(text);
        after.map(|after| Self::After(after.as_secs_f64())).map_err(|_| {
            "write a date as in the file (1998-06-30 or 1998-06-30T18:00), or a time after its beginning (2h)"
                .to_owned()
        })
    }
}

/// One row: its time in seconds, and its requests.
type Row = (f64, f64);

/// Reads a trace.
///
/// # Errors
/// The first line that is not right, and what would be.
pub fn read(file: &str, text: &str, part: &Part) -> Result<Load, TraceError> {
    let wrong = |line: usize, message: String| TraceError { file: file.to_owned(), line, message };
    let mut rows = Rows::default();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        rows.add(line).map_err(|message| wrong(at + 1, message))?;
    }
    let whole = |message: String| wrong(0, message);
    if rows.rows.is_empty() {
        return Err(whole(
            "no requests in it; write lines of TIME,REQUESTS or of arrivals in ms".into(),
        ));
    }
    let exact = rows.stamps;
    let mut buckets = if rows.stamps { rows.by_second() } else { rows.rows.clone() };
    let last = rows.last_width();
    let end = buckets.last().map_or(0.0, |(at, _)| at + last);
    buckets.push((end, 0.0));
    let (from, to) = rows.cut(part, buckets[0].0, end).map_err(whole)?;
    if to - from > LONGEST {
        return Err(whole("longer than 62 days; take a part of it with --from and --for".into()));
    }
    let rates = per_second(&buckets, from, to);
    if rates.iter().all(|rate| *rate <= 0.0) {
        return Err(whole("no requests in this part of it".into()));
    }
    // Counts of single seconds are what arrived; nothing has to be drawn.
    let seconds = buckets.windows(2).all(|pair| pair[1].0 - pair[0].0 == 1.0);
    Ok(Load { name: name(file, part), rates, exact: exact || seconds, begins: rows.moment(from) })
}

fn name(file: &str, part: &Part) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    match part.from {
        Start::At(from) => format!("{file} from {from}"),
        Start::After(from) => format!("{file} from {from:.0} s"),
        Start::Beginning => file.to_owned(),
    }
}

/// The mean rate of each second between two times.
fn per_second(buckets: &[Row], from: f64, to: f64) -> Vec<f64> {
    let mut rates = vec![0.0; (to - from).ceil().max(0.0) as usize];
    for pair in buckets.windows(2) {
        let ((start, count), (end, _)) = (pair[0], pair[1]);
        let rate = count / (end - start);
        let (low, high) = ((start - from).max(0.0), (end - from).min(rates.len() as f64));
        let mut at = low;
        while at < high {
            let next = (at.floor() + 1.0).min(high);
            rates[at as usize] += rate * (next - at);
            at = next;
        }
    }
    rates
}

/// What was read so far.
#[derive(Debug, Default)]
struct Rows {
    rows: Vec<Row>,
    /// One column: the rows are arrivals.
    stamps: bool,
    /// What second 0 is, where that is known.
    origin: Option<DateTime>,
    /// Times are written as dates: second 0 is the first row's.
    dates: bool,
    headed: bool,
}

impl Rows {
    fn add(&mut self, line: &str) -> Result<(), String> {
        let cells: Vec<&str> =
            line.split([',', ';', '\t']).map(|cell| cell.trim().trim_matches('"')).collect();
        let parsed = match cells[..] {
            [stamp] => self.stamp(stamp),
            [time, count] => self.bucket(time, count),
            _ => Err(format!("{} columns; write TIME,REQUESTS, or one arrival in ms", cells.len())),
        };
        match parsed {
            Ok(row) => self.push(row),
            // The first line may be a heading, if it has no number in the place of a count.
            Err(_)
                if self.rows.is_empty()
                    && !self.headed
                    && cells.iter().all(|c| c.parse::<f64>().is_err()) =>
            {
                self.headed = true;
                Ok(())
            }
            Err(message) => Err(message),
        }
    }

    fn stamp(&mut self, text: &str) -> Result<Row, String> {
        if !self.rows.is_empty() && !self.stamps {
            return Err("one column where others have two; write TIME,REQUESTS".into());
        }
        let ms = number(text).ok_or_else(|| format!("'{text}' is no time in milliseconds"))?;
        self.stamps = true;
        self.count_from_1970(ms / 1000.0);
        Ok((ms / 1000.0, 1.0))
    }

    fn bucket(&mut self, time: &str, count: &str) -> Result<Row, String> {
        if self.stamps {
            return Err("two columns where others have one; write an arrival in ms".into());
        }
        let count = number(count)
            .filter(|count| *count >= 0.0)
            .ok_or_else(|| format!("'{count}' is no number of requests; write 0 or more"))?;
        if let Some(seconds) = number(time).filter(|_| !self.dates) {
            self.count_from_1970(seconds);
            return Ok((seconds, count));
        }
        let known = time.trim_end_matches('Z').parse::<DateTime>().map_err(|_| {
            format!("'{time}' is no time; write seconds or a date as 1998-06-30T12:00:00")
        })?;
        self.dates = true;
        let first = *self.origin.get_or_insert(known);
        Ok((known.duration_since(first).as_secs_f64(), count))
    }

    /// If the first row's time says so.
    fn count_from_1970(&mut self, seconds: f64) {
        if self.rows.is_empty() && seconds >= SINCE_1970 {
            self.origin = Some(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0));
        }
    }

    /// A row's time in milliseconds since 1970.
    fn moment(&self, seconds: f64) -> Option<u64> {
        let after = SignedDuration::try_from_secs_f64(seconds).ok()?;
        let at = self.origin?.checked_add(after).ok()?.to_zoned(TimeZone::UTC).ok()?;
        u64::try_from(at.timestamp().as_millisecond()).ok()
    }

    fn push(&mut self, row: Row) -> Result<(), String> {
        if let Some((before, _)) = self.rows.last() {
            let least = if self.stamps { *before } else { before + 1.0 };
            if row.0 < least {
                return Err(match self.stamps {
                    true => "before the arrival above it; arrivals have to be in order".into(),
                    false => "less than a second after the line above it; write rows in order, of 1 s or more".into(),
                });
            }
        }
        self.rows.push(row);
        Ok(())
    }

    /// Arrivals as counts of seconds.
    fn by_second(&self) -> Vec<Row> {
        let mut counts: Vec<Row> = Vec::new();
        for (at, _) in &self.rows {
            let second = at.floor();
            let mut next = counts.last().map_or(second, |(last, _)| last + 1.0);
            while next <= second && (next - second).abs() < LONGEST {
                counts.push((next, 0.0));
                next += 1.0;
            }
            if let Some(last) = counts.last_mut() {
                last.1 += 1.0;
            }
        }
        counts
    }

    /// How long the last row lasts: as long as the one before it.
    fn last_width(&self) -> f64 {
        match self.rows[..] {
            [.., (before, _), (last, _)] if !self.stamps => last - before,
            _ => 1.0,
        }
    }

    fn cut(&self, part: &Part, begin: f64, end: f64) -> Result<(f64, f64), String> {
        let from = match (part.from, self.origin) {
            (Start::Beginning, _) => begin,
            (Start::After(after), _) => begin + after,
            (Start::At(at), Some(first)) => at.duration_since(first).as_secs_f64(),
            (Start::At(_), None) => {
                return Err(
                    "its times are no dates; give --from as a time after its beginning, as 2h"
                        .into(),
                );
            }
        };
        if from < begin || from >= end {
            return Err("--from is not within it".into());
        }
        Ok((from, part.length.map_or(end, |length| (from + length).min(end))))
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Load, String> {
        read("dir/t.csv", text, &Part::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn counts_are_spread_over_their_bucket() {
        let load = load("minute_utc,requests\n1998-06-26T00:00:00,120\n1998-06-26T00:01:00,60\n");
        let load = load.expect("a trace");
        assert_eq!((load.rates.len(), load.exact, &*load.name), (120, false, "t.csv"));
        assert_eq!([load.rates[0], load.rates[59], load.rates[60]], [2.0, 2.0, 1.0]);
    }

    #[test]
    fn a_gap_has_the_rate_of_its_requests_over_all_of_it() {
        let load = load("0,10\n2,30\n8,4\n").expect("a trace");
        assert_eq!(load.rates[..3], [5.0, 5.0, 5.0]);
        assert_eq!((load.rates[7], load.rates[8], load.rates.len()), (5.0, 4.0 / 6.0, 14));
    }

    #[test]
    fn arrivals_become_exact_counts() {
        let load = load("arrival_ms\n500\n700\n3100\n").expect("a trace");
        assert_eq!((&load.rates[..], load.exact), (&[2.0, 0.0, 0.0, 1.0][..], true));
        assert_eq!(load.begins, None, "of no day");
    }

    #[test]
    fn dates_and_seconds_since_1970_say_when_it_was() {
        let recorded = load("1700000000,3\n1700000001,4\n").expect("a recording");
        assert_eq!((recorded.exact, recorded.begins), (true, Some(1_700_000_000_000)));
        let part = Part { from: "2023-11-14T22:13:21".parse().expect("a date"), length: None };
        let part = read("t.csv", "1700000000,3\n1700000001,4\n", &part).expect("a part");
        assert_eq!((&part.rates[..], part.begins), (&[4.0][..], Some(1_700_000_001_000)));
        let dates = load("2023-11-14T22:13:20Z,3\n2023-11-14T22:14:20Z,4\n").expect("a trace");
        assert_eq!(dates.begins, Some(1_700_000_000_000));
        assert_eq!(load("1700000000500\n").expect("arrivals").begins, Some(1_700_000_000_000));
    }

    #[test]
    fn a_part_is_taken_by_date_or_by_time() {
        let text = "2014-04-10 00:00:00,5\n2014-04-10 00:00:05,10\n2014-04-10 00:00:10,15\n";
        let take = |from: &str, length| {
            let part = Part { from: from.parse().expect("a start"), length };
            read("t.csv", text, &part).map(|load| load.rates)
        };
        assert_eq!(take("2014-04-10T00:00:04", Some(2.0)), Ok(vec![1.0, 2.0]));
        assert_eq!(take("10s", None), Ok(vec![3.0; 5]));
        assert_eq!(take("1h", None).unwrap_err().to_string(), "t.csv: --from is not within it");
        assert!("noon".parse::<Start>().is_err());
    }

    #[test]
    fn mistakes_name_their_line_and_what_would_be_right() {
        let cases = [
            ("", "t.csv: no requests in it"),
            ("a,b\n", "t.csv: no requests in it"),
            ("0,1\n1,x\n", "t.csv:2: 'x' is no number of requests; write 0 or more"),
            ("0,1\nnoon,2\n", "t.csv:2: 'noon' is no time; write seconds or a date"),
            ("0,1\n\n# gap\n0,2\n", "t.csv:4: less than a second after the line above it"),
            ("0,1,2\n", "t.csv:1: 3 columns; write TIME,REQUESTS"),
            ("5\n4\n", "t.csv:2: before the arrival above it"),
            ("5\n6,1\n", "t.csv:2: two columns where others have one"),
            ("a,b\nc,d\n", "t.csv:2: 'd' is no number of requests"),
            ("0,-1\n", "t.csv:1: '-1' is no number of requests"),
            ("0,0\n1,0\n", "t.csv: no requests in this part of it"),
        ];
        for (text, expected) in cases {
            let found = load(text).expect_err(text);
            assert!(found.replace("dir/", "").starts_with(expected), "{text:?}: {found}");
        }
    }
}
