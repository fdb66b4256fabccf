//! `[[service.NAME.scaling.schedule]]`: other bounds at certain times.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// `[[service.NAME.scaling.schedule]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    pub name: Arc<str>,
    pub starts: Starts,
    /// How long it holds from each start on; time that passes, not hands of a clock.
    pub lasts: Duration,
    pub zone: TimeZone,
    /// While it holds, in the place of the service's own.
    pub min: Option<u32>,
    pub max: Option<u32>,
    /// A wish beside those of the policies.
    pub desired: Option<u32>,
}

/// When it begins, in local time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Starts {
    Cron(Cron),
    Once(DateTime),
}

/// Five fields as in crontab(5), each as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    pub minutes: u64,
    pub hours: u64,
    pub days: u64,
    pub months: u64,
    /// 0 = Sunday.
    pub weekdays: u64,
    /// Both days of the month and of the week are restricted: then either suffices, as in crontab(5).
    pub either_day: bool,
}

impl Cron {
    /// Whether it has starts on that day.
    pub fn is_on(&self, date: Date) -> bool {
        let month = has(self.months, date.month());
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        month && if self.either_day { day || weekday } else { day && weekday }
    }

    /// Its starts on a day that has some, the last first.
    pub fn times(&self) -> impl Iterator<Item = (i8, i8)> {
        let hours = (0..24).rev().filter(|hour| has(self.hours, *hour));
        hours.flat_map(|hour| {
            let minutes = (0..60).rev().filter(|minute| has(self.minutes, *minute));
            minutes.map(move |minute| (hour, minute))
        })
    }
}

fn has(set: u64, value: i8) -> bool {
    set >> value & 1 == 1
}
