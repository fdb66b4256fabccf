//! Schedules: which bounds hold now, and until when.
//!
//! A schedule holds for a time that begins at each of its starts. Starts are local times: one that
//! a change to summer time skips comes as much later as the clocks go forward, one that comes
//! twice counts once, the first time (RFC 5545, 3.3.5). How long it holds is time that passes.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::config::types::{Scaling, Schedule, Starts};

use super::Wall;

/// What the schedules that hold now ask for together: the largest of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduled {
    pub min: Option<u32>,
    pub max: Option<u32>,
    /// At least so many are wished: `min` or `desired`.
    pub floor: Option<u32>,
    /// When the first of them ends.
    pub until: Option<Wall>,
}

/// What holds at that moment.
pub fn at(schedules: &[Arc<Schedule>], now: Wall) -> Scheduled {
    let mut all = Scheduled::default();
    let Some(moment) = timestamp(now) else { return all };
    for schedule in schedules {
        let Some(end) = holds_until(schedule, moment) else { continue };
        let end = Wall(end.as_millisecond().max(0) as u64);
        all.min = all.min.max(schedule.min);
        all.max = all.max.max(schedule.max);
        all.floor = all.floor.max(schedule.min).max(schedule.desired);
        all.until = Some(all.until.map_or(end, |until| until.min(end)));
    }
    all
}

impl Scheduled {
    /// The configuration with the bounds that hold now.
    pub fn bound(&self, params: &Scaling) -> Scaling {
        let max = self.max.unwrap_or(params.max);
        // A floor of one schedule must not be above the ceiling of another.
        let min = self.min.unwrap_or(params.min).min(max);
        Scaling { min, max, ..params.clone() }
    }
}

/// The end of the newest time in which it holds, if that is now.
fn holds_until(schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
    let start = match &schedule.starts {
        Starts::Once(at) => Some(moment(schedule, *at)?).filter(|start| *start <= now),
        Starts::Cron(_) => last_start(schedule, now),
    };
    let end = start?.checked_add(SignedDuration::try_from(schedule.lasts).ok()?).ok()?;
    (end > now).then_some(end)
}

/// The newest start that is not in the future, as far back as matters.
fn last_start(schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
    let Starts::Cron(cron) = &schedule.starts else { return None };
    let today = now.to_zoned(schedule.zone.clone()).date();
    let days = (schedule.lasts.as_secs() / 86_400) as i64 + 1;
    let mut date = today;
    for _ in 0..=days {
        if cron.is_on(date) {
            let starts = cron.times().filter_map(|(hour, minute)| {
                moment(schedule, date.at(hour, minute, 0, 0)).filter(|start| *start <= now)
            });
            if let Some(start) = starts.take(1).next() {
                return Some(start);
            }
        }
        date = date.checked_sub(1.day()).ok()?;
    }
    None
}

fn moment(schedule: &Schedule, local: DateTime) -> Option<Timestamp> {
    Some(local.to_zoned(schedule.zone.clone()).ok()?.timestamp())
}

fn timestamp(wall: Wall) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(wall.0).ok()?).ok()
}

/// From one moment to another one, zero if it is over.
pub fn left(now: Wall, until: Wall) -> Duration {
    Duration::from_millis(until.0.saturating_sub(now.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::types::Cron;
    use jiff::tz::TimeZone;

    fn every_day(hour: u32, hours: u64, zone: &str) -> Arc<Schedule> {
        let starts = Starts::Cron(Cron {
            minutes: 1 << 30,
            hours: 1 << hour,
            days: u64::MAX,
            months: u64::MAX,
            weekdays: 0x7f,
            either_day: false,
        });
        Arc::new(Schedule {
            name: "test".into(),
            starts,
            lasts: Duration::from_secs(hours * 3600),
            zone: match zone {
                "UTC" => TimeZone::UTC,
                zone => TimeZone::get(zone).expect("the system knows it"),
            },
            min: Some(5),
            max: None,
            desired: None,
        })
    }

    fn min_at(schedule: &Arc<Schedule>, time: &str) -> Option<u32> {
        let moment: Timestamp = time.parse().expect("a time");
        at(std::slice::from_ref(schedule), Wall(moment.as_millisecond() as u64)).min
    }

    #[test]
    fn it_holds_from_its_start_for_its_time() {
        let schedule = every_day(8, 10, "UTC");
        assert_eq!(min_at(&schedule, "2026-05-04T08:29:59Z"), None);
        assert_eq!(min_at(&schedule, "2026-05-04T08:30:00Z"), Some(5));
        assert_eq!(min_at(&schedule, "2026-05-04T18:29:59Z"), Some(5));
        assert_eq!(min_at(&schedule, "2026-05-04T18:30:00Z"), None);
    }

    #[test]
    fn it_goes_on_after_midnight_and_over_days() {
        let night = every_day(22, 10, "UTC");
        assert_eq!(min_at(&night, "2026-05-05T08:29:00Z"), Some(5));
        let long = every_day(22, 24 * 3, "UTC");
        assert_eq!(min_at(&long, "2026-05-05T12:00:00Z"), Some(5));
    }

    #[test]
    fn eight_in_berlin_is_another_moment_in_summer() {
        let schedule = every_day(8, 1, "Europe/Berlin");
        // Clocks go forward on 29 March 2026.
        assert_eq!(min_at(&schedule, "2026-03-28T07:30:00Z"), Some(5));
        assert_eq!(min_at(&schedule, "2026-03-29T06:29:59Z"), None);
        assert_eq!(min_at(&schedule, "2026-03-29T06:30:00Z"), Some(5));
        assert_eq!(min_at(&schedule, "2026-03-29T07:30:00Z"), None);
    }

    #[test]
    fn a_start_that_is_skipped_comes_later_and_one_that_comes_twice_counts_once() {
        let schedule = every_day(2, 1, "Europe/Berlin");
        // 02:30 is skipped on 29 March: it is 03:30 summer time, 01:30 UTC.
        assert_eq!(min_at(&schedule, "2026-03-29T01:29:59Z"), None);
        assert_eq!(min_at(&schedule, "2026-03-29T01:30:00Z"), Some(5));
        // On 25 October 02:30 comes at 00:30 UTC and again at 01:30 UTC.
        assert_eq!(min_at(&schedule, "2026-10-25T00:30:00Z"), Some(5));
        assert_eq!(min_at(&schedule, "2026-10-25T01:30:00Z"), None);
    }

    #[test]
    fn a_date_is_once() {
        let date = Starts::Once(jiff::civil::date(2026, 12, 24).at(8, 0, 0, 0));
        let schedule = Arc::new(Schedule { starts: date, ..(*every_day(0, 2, "UTC")).clone() });
        assert_eq!(min_at(&schedule, "2026-12-24T09:59:59Z"), Some(5));
        assert_eq!(min_at(&schedule, "2026-12-25T08:00:00Z"), None);
    }

    #[test]
    fn of_several_the_largest_counts() {
        let one = every_day(8, 10, "UTC");
        let other = Schedule { min: None, desired: Some(9), max: Some(7), ..(*one).clone() };
        let at = at(&[one, Arc::new(other)], Wall(1_777_975_200_000));
        assert_eq!((at.min, at.max, at.floor), (Some(5), Some(7), Some(9)));
    }
}
