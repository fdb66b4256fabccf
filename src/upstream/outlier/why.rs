//! Why a backend is ejected and how it comes back: for metrics, events and people.

use std::fmt;
use std::time::Duration;

use crate::telemetry::counter::labels;

use super::rule::{RATE_MARGIN, Threshold};

labels! {
    /// What an ejection is counted under.
    Reason {
        Consecutive = "consecutive",
        SuccessRate = "success_rate",
        FailurePercent = "failure_percent",
        RetryAfter = "retry_after",
        /// The request that tried an ejected one failed: it stays out.
        Probe = "probe",
    }
}

/// A gateway failure: the backend did not answer, or with 502, 503 or 504.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    Status(u16),
    Refused,
    Unreachable,
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// No connection for another reason.
    Connect,
    /// The connection broke before the head of the answer.
    Reset,
    /// Within `response_timeout` or `write_timeout`, or until the route's time was over.
    Timeout,
    NotHttp,
}

/// The numbers that led to an ejection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    Consecutive {
        failures: u32,
        last: Blow,
    },
    /// Percent.
    SuccessRate {
        rate: f64,
        limit: Threshold,
    },
    FailurePercent {
        failed: u64,
        requests: u64,
    },
    /// It asked for it.
    RetryAfter {
        wait: Duration,
    },
    Probe {
        last: Blow,
    },
}

impl Why {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Consecutive { .. } => Reason::Consecutive,
            Self::SuccessRate { .. } => Reason::SuccessRate,
            Self::FailurePercent { .. } => Reason::FailurePercent,
            Self::RetryAfter { .. } => Reason::RetryAfter,
            Self::Probe { .. } => Reason::Probe,
        }
    }
}

/// How an ejection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// The request that tried it was answered.
    Probe,
    /// An active check passed after its time, or after it had failed some.
    Check,
    /// Its time is over, and a request that tries it would have left its own backend for that.
    Time,
    /// What it was ejected for is off now.
    Settings,
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::ConnectTimeout => f.write_str("no connection in time"),
            Self::Connect => f.write_str("no connection"),
            Self::Reset => f.write_str("connection broken"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::NotHttp => f.write_str("not valid HTTP"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive { failures: 1, last } => write!(f, "a failure: {last}"),
            Self::Consecutive { failures, last } => {
                write!(f, "{failures} consecutive failures, last: {last}")
            }
            Self::SuccessRate { rate, limit } => {
                let Threshold { mean, deviation, factor } = limit;
                write!(f, "success rate {rate:.1} % < {mean:.1} % − ")?;
                match factor * deviation > RATE_MARGIN {
                    true => write!(f, "{factor} × {deviation:.1} %"),
                    false => write!(f, "{RATE_MARGIN} %"),
                }
            }
            Self::FailurePercent { failed, requests } => {
                let percent = *failed as f64 * 100.0 / *requests as f64;
                write!(f, "{failed} of {requests} requests failed ({percent:.1} %)")
            }
            Self::RetryAfter { wait } => {
                write!(f, "it answered 503 and asked for {} s", wait.as_secs())
            }
            Self::Probe { last } => write!(f, "tried again: {last}"),
        }
    }
}

impl Back {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "it answers again",
            Self::Check => "it passes checks",
            Self::Time => "its time is over",
            Self::Settings => "what it was ejected for is off",
        }
    }
}
