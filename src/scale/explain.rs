//! From a record to sentences that a tired operator understands.

use jiff::tz::TimeZone;

use super::Record;

/// Several lines: when and what, because, limits, otherwise, then, next.
pub fn explain(_record: &Record, _zone: &TimeZone) -> String {
    unimplemented!()
}

/// One line for the terminal.
pub fn one_line(_record: &Record, _zone: &TimeZone) -> String {
    unimplemented!()
}
