//! When a certificate is valid: the two dates out of its DER, and nothing else.
//!
//! RFC 5280 §4.1: Certificate → tbsCertificate → version, serial, signature, issuer, validity.
//! The structure was already accepted by webpki when this is called; still every step is checked.

use std::time::{Duration, SystemTime};

use super::der::{self, element};

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// notBefore and notAfter; `None` if the certificate is not made as it should be.
pub(super) fn validity(certificate: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (dates, _) = der::validity(certificate)?;
    let (not_before, rest) = time(dates)?;
    let (not_after, _) = time(rest)?;
    Some((not_before, not_after))
}

/// `YYMMDDHHMMSSZ` (to 2049) or `YYYYMMDDHHMMSSZ`, RFC 5280 §4.1.2.5.
fn time(der: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (tag, text, rest) = element(der)?;
    let text = text.strip_suffix(b"Z")?;
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number =
        |digits: &[u8]| digits.iter().fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let (year, text) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year = number(&text[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&text[..4]), &text[4..]),
        _ => return None,
    };
    let part = |at: usize| number(&text[at..at + 2]);
    let seconds = days(year, part(0), part(2)) * 86_400 + part(4) * 3600 + part(6) * 60 + part(8);
    let since = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let moment = if seconds < 0 { epoch.checked_sub(since) } else { epoch.checked_add(since) };
    Some((moment?, rest))
}

/// Days since 1970-01-01 in the Gregorian calendar. The year is taken to begin in March, so
/// that the leap day is its last; 146 097 days make 400 years.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(der: &[u8]) -> Option<u64> {
        let (moment, _) = time(der)?;
        Some(moment.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
    }

    #[test]
    fn dates() {
        for (der, expected) in [
            (&b"\x17\x0d700101000000Z"[..], Some(0)),
            (b"\x17\x0d240229235959Z", Some(1_709_251_199)),
            (b"\x17\x0d491231235959Z", Some(2_524_607_999)),
            (b"\x18\x0f20500101000000Z", Some(2_524_608_000)),
            (b"\x18\x0f99991231235959Z", Some(253_402_300_799)),
            (b"\x17\x0c49123123595Z", None),
            (b"\x17\x0d49123123595xZ", None),
            (b"\x17\x0d4912", None),
            (b"\x18\x0d491231235959Z", None),
        ] {
            assert_eq!(unix(der), expected, "{}", der.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        for der in [&b""[..], b"\x30", b"\x30\x84\x00\x00\x00\x00", b"\x30\x02\x30\x00"] {
            assert_eq!(validity(der), None);
        }
    }
}
