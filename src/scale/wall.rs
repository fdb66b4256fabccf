//! Wall time as it stands in records: RFC 3339 in JSON, milliseconds in memory.
//!
//! Decisions never look at it; it is there for people.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wall(pub u64);

impl Wall {
    /// This moment and `by` more.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_millis() as u64))
    }

    /// The whole hour (UTC) that it is in.
    pub fn hour(self) -> Self {
        Self(self.0 / 3_600_000 * 3_600_000)
    }

    /// The beginning of the month (UTC) that it is in.
    pub fn month(self) -> Self {
        self.of_month(|date| date.first_of_month())
    }

    /// Until the month (UTC) is over.
    pub fn month_left(self) -> Duration {
        let last = |date: jiff::civil::Date| {
            date.last_of_month().saturating_add(jiff::Span::new().days(1))
        };
        Duration::from_millis(self.of_month(last).0.saturating_sub(self.0))
    }

    fn of_month(self, day: impl Fn(jiff::civil::Date) -> jiff::civil::Date) -> Self {
        let date = self.timestamp().to_zoned(jiff::tz::TimeZone::UTC).date();
        let midnight = day(date).to_zoned(jiff::tz::TimeZone::UTC);
        midnight
            .map_or(self, |at| Self(u64::try_from(at.timestamp().as_millisecond()).unwrap_or(0)))
    }

    /// `14:03:07` in a time zone.
    pub fn clock(self, zone: &jiff::tz::TimeZone) -> String {
        self.timestamp().to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
    }

    fn timestamp(self) -> jiff::Timestamp {
        i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .unwrap_or(jiff::Timestamp::MAX)
    }
}

impl From<SystemTime> for Wall {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

impl Serialize for Wall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        Ok(Self(u64::try_from(time.as_millisecond()).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_months_have_a_beginning_and_an_end() {
        let wall = Wall(1_709_212_530_250); // 2024-02-29T13:15:30.250Z
        assert_eq!(wall.hour().to_string(), "2024-02-29T13:00:00.000Z");
        assert_eq!(wall.month().to_string(), "2024-02-01T00:00:00.000Z");
        assert_eq!(wall.month_left(), Duration::from_millis(38_669_750));
    }

    #[test]
    fn it_is_rfc_3339_in_json_and_survives_the_way_back() {
        let wall = Wall(1_700_000_000_250);
        let json = serde_json::to_string(&wall).expect("a string");
        assert_eq!(json, "\"2023-11-14T22:13:20.250Z\"");
        assert_eq!(serde_json::from_str::<Wall>(&json).expect("its own output"), wall);
        assert_eq!(wall.clock(&jiff::tz::TimeZone::UTC), "22:13:20");
    }
}
