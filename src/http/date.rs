//! Date for answers that have none (RFC 9110 §6.6.1), made once a second. hyper has its own for HTTP/1.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{DATE, Entry};
use http::{HeaderMap, HeaderValue};

use crate::clock::Clock;

thread_local! {
    static LAST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

/// Adds it where there is none.
pub fn complete(headers: &mut HeaderMap, clock: &Clock) {
    if let Entry::Vacant(vacant) = headers.entry(DATE)
        && let Some(date) = value(clock.wall(clock.now()))
    {
        vacant.insert(date);
    }
}

/// The value at that time.
fn value(now: SystemTime) -> Option<HeaderValue> {
    let second = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    LAST.with_borrow_mut(|last| match last {
        Some((then, value)) if *then == second => Some(value.clone()),
        _ => {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            let value = HeaderValue::try_from(text).ok()?;
            *last = Some((second, value.clone()));
            Some(value)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_with_the_second() {
        let at = |millis| value(UNIX_EPOCH + Duration::from_millis(millis)).expect("a date");
        assert_eq!(at(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_778_000), "Sun, 06 Nov 1994 08:49:38 GMT");
    }

    #[test]
    fn one_that_is_there_stays() {
        let clock = Clock::manual(UNIX_EPOCH);
        let mut headers = HeaderMap::new();
        complete(&mut headers, &clock);
        assert_eq!(headers[DATE], "Thu, 01 Jan 1970 00:00:00 GMT");
        headers.insert(DATE, HeaderValue::from_static("theirs"));
        complete(&mut headers, &clock);
        assert_eq!(headers[DATE], "theirs");
    }
}
