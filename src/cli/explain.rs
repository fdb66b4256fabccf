//! `tidegate explain`: why the last scaling decision, or the one at some time, was taken.

use std::process::ExitCode;

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use super::client::{AdminArgs, Client, Failure, finish, service_path};
use crate::scale::{Record, explain::explain};

/// As many records as the API gives at once.
const SEARCHED: usize = 1000;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate explain app\n  tidegate explain app --at 14:03:07")]
pub struct Args {
    /// The service
    pub service: String,
    /// The decision at or before this time: 14:03, 14:03:07, 2026-01-31T14:03:07, or with a zone
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// The record itself, for programs
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

pub fn run(args: &Args) -> ExitCode {
    let now = Timestamp::now().to_zoned(TimeZone::system());
    finish(Client::new(&args.admin).and_then(|client| tell(&client, args, &now)))
}

/// `now` also says in which time zone times are meant and shown.
pub(super) fn tell(client: &Client, args: &Args, now: &Zoned) -> Result<String, Failure> {
    let at = args.at.as_deref().map(|text| moment(text, now)).transpose()?;
    let limit = if at.is_some() { SEARCHED } else { 1 };
    let path = service_path(&args.service, &format!("/decisions?limit={limit}"));
    let records: Vec<serde_json::Value> = client.get(&path)?;
    let found = records.into_iter().find(|record| match at {
        None => true,
        Some(at) => time_of(record).is_some_and(|time| time < at),
    });
    let service = &args.service;
    match (found, &args.at) {
        (Some(record), _) if args.json => Ok(format!("{record}\n")),
        (Some(record), _) => sentences(record, now.time_zone()),
        (None, _) if args.json => Ok("null\n".into()),
        (None, None) => Ok(format!("{service}: no scaling decision yet\n")),
        (None, Some(at)) => {
            Ok(format!("{service}: no scaling decision is known from {at} or before\n"))
        }
    }
}

fn sentences(record: serde_json::Value, zone: &TimeZone) -> Result<String, Failure> {
    let record: Record = serde_json::from_value(record).map_err(|error| {
        Failure::Usage(format!(
            "the record is of another version of tidegate ({error}); try --json"
        ))
    })?;
    let mut text = explain(&record, zone);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn time_of(record: &serde_json::Value) -> Option<Timestamp> {
    record.get("time")?.as_str()?.parse().ok()
}

/// The end of the second (or of the minute, without seconds) that is meant: a decision within
/// it counts. A time of day that is yet to come today was yesterday.
fn moment(text: &str, now: &Zoned) -> Result<Timestamp, Failure> {
    let wrong = || {
        let said =
            format!("--at {text:?} is no time; write 14:03, 14:03:07 or 2026-01-31T14:03:07");
        Failure::Usage(said)
    };
    if let Ok(at) = text.parse::<Timestamp>() {
        return at.checked_add(Span::new().seconds(1)).map_err(|_| wrong());
    }
    let clock = text.rsplit(['T', ' ']).next().unwrap_or(text);
    let grain = match clock.matches(':').count() {
        1 => Span::new().minutes(1),
        2 => Span::new().seconds(1),
        _ => return Err(wrong()),
    };
    let local = |at: DateTime| now.time_zone().to_zoned(at).map_err(|_| wrong());
    let at = match text.parse::<Time>() {
        Ok(time) if !text.contains(['T', ' ', '-']) => {
            let today = local(now.date().to_datetime(time))?;
            let yesterday = || now.date().yesterday().map_err(|_| wrong());
            if today > *now { local(yesterday()?.to_datetime(time))? } else { today }
        }
        _ => local(text.parse::<DateTime>().map_err(|_| wrong())?)?,
    };
    Ok(at.checked_add(grain).map_err(|_| wrong())?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_the_last_one_and_a_minute_is_whole() {
        let now: Zoned = "2026-01-31T14:30:00+01:00[Europe/Berlin]".parse().unwrap_or_else(|_| {
            let zone = TimeZone::fixed(jiff::tz::offset(1));
            "2026-01-31T13:30:00Z".parse::<Timestamp>().unwrap().to_zoned(zone)
        });
        let at = |text: &str| moment(text, &now).map(|at| at.to_string()).unwrap_or_default();
        assert_eq!(at("14:03"), "2026-01-31T13:04:00Z");
        assert_eq!(at("14:03:07"), "2026-01-31T13:03:08Z");
        assert_eq!(at("23:00"), "2026-01-30T22:01:00Z");
        assert_eq!(at("2026-01-30T10:00:00"), "2026-01-30T09:00:01Z");
        assert_eq!(at("2026-01-30 10:00"), "2026-01-30T09:01:00Z");
        assert_eq!(at("2026-01-30T10:00:00Z"), "2026-01-30T10:00:01Z");
        for wrong in ["noon", "25:00", "", "14", "2026-01-30"] {
            assert!(matches!(moment(wrong, &now), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
