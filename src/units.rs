//! Durations, sizes and ratios as people write them, and back.
//!
//! The one place that knows these three notations; whoever reads a file, a flag or a header
//! uses it. Each error says what would be right.

use std::fmt;
use std::time::Duration;

/// The longest duration that is understood: a year.
pub const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// A text that is not what it should be; the message says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("{0:?} is not a duration; write \"250ms\", \"10s\", \"5m\", \"1h\" or \"1h30m\"")]
    Duration(String),
    #[error("{0:?} is longer than a year; write at most \"8760h\"")]
    TooLong(String),
    #[error("{0:?} is not a size; write bytes as \"512\" or \"64KiB\", \"10MiB\", \"1GiB\"")]
    Size(String),
    #[error("{0:?} is more bytes than can be counted; write at most \"8192PiB\"")]
    TooLarge(String),
    #[error("{0:?} is not a ratio; write one from 0 to 1 as 0.2 or \"20%\"")]
    Ratio(String),
}

/// Reads `250ms`, `10s`, `5m`, `1h`, `1h30m`, `1.5s`; `0` needs no unit. From 0 to a year.
///
/// # Errors
/// [`UnitError::Duration`] and [`UnitError::TooLong`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let bad = || UnitError::Duration(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0_f64;
    let mut last = f64::INFINITY;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest).ok_or_else(bad)?;
        let seconds = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(bad()),
        };
        // "30m1h" and "5s5s" are slips, not sums.
        if seconds >= last {
            return Err(bad());
        }
        last = seconds;
        total += number * seconds;
        rest = after;
    }
    if last.is_infinite() {
        return Err(bad());
    }
    if total > MAX_DURATION.as_secs_f64() {
        return Err(UnitError::TooLong(text.to_owned()));
    }
    Ok(Duration::from_micros((total * 1e6).round() as u64))
}

/// Writes a duration so that [`parse_duration`] reads the same: `1h30m`, `250ms`, `0s`.
/// Finer than a microsecond is cut off.
pub fn format_duration(duration: Duration) -> String {
    let mut left = duration.as_micros();
    let mut text = String::new();
    for (unit, micros) in
        [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)]
    {
        if left >= micros {
            text.push_str(&format!("{}{unit}", left / micros));
            left %= micros;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads a number of bytes: `512`, `64KiB`, `10MiB`, `1GiB`, `2TiB`. Units are powers of 1024.
///
/// # Errors
/// [`UnitError::Size`] and [`UnitError::TooLarge`].
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Size(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        "PiB" => 50,
        _ => return Err(bad()),
    };
    if number.is_empty() {
        return Err(bad());
    }
    let too_large = || UnitError::TooLarge(text.to_owned());
    let number: u64 = number.parse().map_err(|_| too_large())?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(too_large)?;
    if i64::try_from(bytes).is_err() { Err(too_large()) } else { Ok(bytes) }
}

/// Writes bytes in the largest unit that divides them: `64KiB`, `1500`.
pub fn format_size(bytes: u64) -> String {
    let units = ["", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let step = if bytes == 0 { 0 } else { (bytes.trailing_zeros() / 10).min(5) };
    format!("{}{}", bytes >> (10 * step), units[step as usize])
}

/// Reads a share of a whole: `0.2` or `20%`. From 0 to 1.
///
/// # Errors
/// [`UnitError::Ratio`].
pub fn parse_ratio(text: &str) -> Result<f64, UnitError> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value = number.parse::<f64>().ok().filter(|_| plain).map(|v| v / scale);
    match value {
        Some(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err(UnitError::Ratio(text.to_owned())),
    }
}

/// A ratio as a percentage with at most two places, for people: `20%`, `12.5%`.
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 10_000.0).round() / 100.0)
    }
}

/// `("1.5", "h", "30m")` of `1.5h30m`.
fn number_and_unit(text: &str) -> Option<(f64, &str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    Some((number.parse().ok()?, unit, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ok = [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250_000),
            ("10s", 10_000_000),
            ("1.5s", 1_500_000),
            ("5m", 300_000_000),
            ("1h30m", 5_400_000_000),
            ("20us", 20),
            ("1d", 86_400_000_000),
        ];
        for (text, micros) in ok {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "s", "10", "5 s", "-1s", "1..5s", "1.s", ".5s", "30m1h", "5s5s", "1y"] {
            assert_eq!(parse_duration(text), Err(UnitError::Duration(text.to_owned())), "{text}");
        }
        assert_eq!(parse_duration("366d"), Err(UnitError::TooLong("366d".to_owned())));
    }

    #[test]
    fn sizes() {
        let ok = [("0", 0), ("512", 512), ("512B", 512), ("64KiB", 65_536), ("10MiB", 10 << 20)];
        for (text, bytes) in ok {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "10MB", "10k", "-1", "1.5MiB", "10 MiB"] {
            assert_eq!(parse_size(text), Err(UnitError::Size(text.to_owned())), "{text}");
        }
        for text in ["99999999999999999999", "9000PiB"] {
            assert_eq!(parse_size(text), Err(UnitError::TooLarge(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn ratios() {
        for (text, value) in [("0", 0.0), ("0.2", 0.2), ("20%", 0.2), ("100%", 1.0), ("1", 1.0)] {
            assert_eq!(parse_ratio(text), Ok(value), "{text}");
        }
        for text in ["", "%", "101%", "1.5", "-0.1", "nan", "inf", "1e-1", "a fifth"] {
            assert_eq!(parse_ratio(text), Err(UnitError::Ratio(text.to_owned())), "{text}");
        }
        assert_eq!(Percent(0.125).to_string(), "12.5%");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in 0..MAX_DURATION.as_micros() as u64, bytes: u32, shift in 0..31) {
            let duration = Duration::from_micros(micros);
            proptest::prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            let bytes = u64::from(bytes) << shift;
            proptest::prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
    }
}
