//! What to do after a request to a target: it was taken, it is tried again, or it is given up.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use crate::fetch::{Answer, FetchError};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Tries of one request: with the waits between them it is given up after some four minutes.
const TRIES: u32 = 9;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Taken,
    /// After at least so long.
    Again(Duration, String),
    GiveUp(String),
}

/// `tries`: with this one.
pub fn judge(result: &Result<Answer, FetchError>, tries: u32) -> Verdict {
    let (why, at_least) = match result {
        Ok(answer) if answer.status.is_success() => return Verdict::Taken,
        Ok(answer) if !is_passing(answer.status) => {
            return Verdict::GiveUp(format!("refused with status {}", answer.status.as_u16()));
        }
        Ok(answer) => (format!("status {}", answer.status.as_u16()), retry_after(&answer.headers)),
        Err(error) => (error.to_string(), Duration::ZERO),
    };
    if tries >= TRIES {
        return Verdict::GiveUp(format!("{why}, {tries} times"));
    }
    let wait = FIRST_WAIT * 2u32.saturating_pow(tries.saturating_sub(1).min(16));
    Verdict::Again(wait.min(LONGEST_WAIT).max(at_least), why)
}

/// Another try may be taken: too many requests, a timeout, trouble of the server's.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// Seconds (RFC 9110 §10.2.3), an hour at most. Dates are not understood.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0).min(3600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn answer(status: u16, retry_after: Option<&str>) -> Result<Answer, FetchError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Answer { status, headers, body: Bytes::new() })
    }

    #[test]
    fn waits_double_and_end() {
        let waits = (1..TRIES).map(|tries| match judge(&answer(503, None), tries) {
            Verdict::Again(wait, why) => {
                assert_eq!(why, "status 503");
                wait.as_secs()
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(waits.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60]);
        let over = judge(&answer(503, None), TRIES);
        assert_eq!(over, Verdict::GiveUp("status 503, 9 times".to_owned()));
    }

    #[test]
    fn a_target_may_ask_for_longer_waits_and_refuse_for_good() {
        let asked = judge(&answer(429, Some("30")), 1);
        assert_eq!(asked, Verdict::Again(Duration::from_secs(30), "status 429".to_owned()));
        assert!(
            matches!(judge(&answer(429, Some("soon")), 1), Verdict::Again(wait, _) if wait == FIRST_WAIT)
        );
        for status in [301, 400, 403, 404, 410] {
            assert!(matches!(judge(&answer(status, None), 1), Verdict::GiveUp(_)), "{status}");
        }
        assert_eq!(judge(&answer(204, None), 5), Verdict::Taken);
    }
}
