//! `[[service.NAME.scaling.schedule]]`: when, for how long, and which bounds.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::reader::Reader;
use crate::config::types::{Cron, Schedule, Starts};

const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// More backends of one service than anyone runs.
const MAX_BACKENDS: i64 = 100_000;

pub fn read(r: &mut Reader<'_>) -> Schedule {
    let cron = r.string("cron").and(|text| cron(&text)).optional();
    let date = r.string("date").and(|text| date(&text)).optional();
    if r.has("cron") == r.has("date") && !r.is_partial() {
        let message = "a schedule has either cron or date; write cron = \"0 8 * * mon-fri\" or \
                       date = \"2026-12-24T08:00\"";
        r.missing(message);
    }
    let starts = match (cron, date) {
        (Some(cron), _) => Starts::Cron(cron),
        (None, date) => Starts::Once(date.unwrap_or_default()),
    };
    let schedule = Schedule {
        name: r.string("name").required().into(),
        starts,
        lasts: r.period("for").required(),
        zone: r.string("timezone").and(|name| zone(&name)).or("UTC"),
        min: r.int("min", 0..=MAX_BACKENDS).optional(),
        max: r.int("max", 1..=MAX_BACKENDS).optional(),
        desired: r.int("desired", 0..=MAX_BACKENDS).optional(),
    };
    let changes = r.has("min") || r.has("max") || r.has("desired");
    if !changes && !r.is_partial() {
        r.missing("this schedule changes nothing; add min, max or desired");
    }
    if let (Some(min), Some(max)) = (schedule.min, schedule.max)
        && min > max
    {
        r.problem("min", format!("min {min} is above max {max}; write min ≤ max"));
    }
    schedule
}

fn zone(name: &str) -> Result<TimeZone, String> {
    match name {
        "UTC" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|_| {
            format!("{name:?} is not in this system's time zones; write one as \"Europe/Berlin\"")
        }),
    }
}

fn date(text: &str) -> Result<DateTime, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not a local date and time; write one as \"2026-12-24T08:00\"")
    })
}

/// Minute, hour, day of the month, month, day of the week.
fn cron(text: &str) -> Result<Cron, String> {
    let right = "write five fields as \"0 8 * * mon-fri\": minute, hour, day, month, weekday";
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(format!("{text:?} has {} fields; {right}", fields.len()));
    };
    let set = |text: &str, low, high, names: &[&str], first| {
        set(text, low, high, names, first)
            .ok_or_else(|| format!("{text:?} is not a field of it; {right}"))
    };
    let weekdays = set(weekday, 0, 7, &DAYS, 0)?;
    let cron = Cron {
        minutes: set(minute, 0, 59, &[], 0)?,
        hours: set(hour, 0, 23, &[], 0)?,
        days: set(day, 1, 31, &[], 0)?,
        months: set(month, 1, 12, &MONTHS, 1)?,
        // 7 is Sunday, too.
        weekdays: (weekdays | weekdays >> 7) & 0x7f,
        either_day: !day.starts_with('*') && !weekday.starts_with('*'),
    };
    // The longest month is not the shortest: 30 and 31 February never come.
    let longest = |month: u32| match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let comes = (1..=12).any(|month| {
        cron.months >> month & 1 == 1 && (1..=longest(month)).any(|day| cron.days >> day & 1 == 1)
    });
    match comes || cron.either_day {
        true => Ok(cron),
        false => Err(format!("{text:?} never comes: no such month has such a day")),
    }
}

/// `*`, `5`, `1-5`, `*/15`, `8-18/2`, and several of these with commas, as bits; names count from `first`.
fn set(text: &str, low: u32, high: u32, names: &[&str], first: u32) -> Option<u64> {
    let number = |text: &str| {
        let name = || names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = || name().map(|index| index as u32 + first);
        text.parse::<u32>().ok().or_else(named).filter(|n| (low..=high).contains(n))
    };
    text.split(',').try_fold(0, |bits, part| {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u32>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (number(from)?, number(to)?),
            None if range == "*" => (low, high),
            // "5/15" is "from 5 on, every 15".
            None => (number(range)?, if step > 1 { high } else { number(range)? }),
        };
        let wanted = (from..=to).step_by(step as usize);
        (from <= to).then(|| wanted.fold(bits, |bits: u64, n| bits | 1 << n))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(of: impl IntoIterator<Item = u32>) -> u64 {
        of.into_iter().fold(0, |bits, n| bits | 1 << n)
    }

    #[test]
    fn fields_are_as_in_crontab() {
        let cron = |text| super::cron(text).unwrap();
        let office = cron("0 8 * * mon-fri");
        assert_eq!((office.minutes, office.hours), (bits([0]), bits([8])));
        assert_eq!((office.weekdays, office.either_day), (bits(1..=5), false));
        let often = cron("*/15,7 8-18/2 1 JAN,jul 7");
        assert_eq!(often.minutes, bits([0, 7, 15, 30, 45]));
        assert_eq!(often.hours, bits([8, 10, 12, 14, 16, 18]));
        assert_eq!((often.months, often.weekdays), (bits([1, 7]), bits([0])));
        assert!(often.either_day);
        assert_eq!(cron("5/20 * * * *").minutes, bits([5, 25, 45]));
    }

    #[test]
    fn what_is_no_cron_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "a * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "0 0 30 2 *",
        ] {
            assert!(cron(text).is_err(), "{text}");
        }
        assert!(cron("0 0 29 2 *").is_ok());
    }
}
