//! Open-loop load: requests are sent when they are due, whether or not earlier ones were answered.
//!
//! A closed loop (send, wait, send again) slows down with the server and so hides its worst
//! moments; here the arrivals are planned from the rate alone, and latency is counted from the
//! planned time. What could not be sent is reported, never left out. [`run`] is the whole
//! library; commands and tests build a [`Plan`] and read the [`Report`]. The standard tests of
//! scaling ([`Standard`]) are only other rates, with a [`Verdict`] and a chart of the report.

mod arrivals;
pub mod chart;
mod client;
mod engine;
#[cfg(test)]
mod fixture;
mod log;
mod outcome;
mod record;
mod report;
mod sizes;
mod standard;
mod verdict;

pub use crate::tls::trust::Trust;
pub use arrivals::{Arrivals, Rate, Spacing};
pub use engine::run;
pub use outcome::Cause;
pub use report::{Latency, Report, Second};
pub use sizes::{Look, Mark, MarkKind, Sizes};
pub use standard::{Phase, Phases, Standard};
pub use verdict::{Criterion, Judgement, LATE_MS, P99_MS, Verdict};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// Over TLS by ALPN, without it by prior knowledge.
    Http2,
}

/// What is to be sent, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `http://host[:port]/path?query`, or https.
    pub url: http::Uri,
    pub method: http::Method,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    pub protocol: Protocol,
    /// Whose certificates are believed, for https.
    pub trust: Trust,
    pub rate: Rate,
    pub spacing: Spacing,
    pub duration: Duration,
    /// From the planned time to the last byte of the answer.
    pub timeout: Duration,
    /// Connections opened before the first request. HTTP/1.1 opens more as it needs them;
    /// HTTP/2 shares these, and opens more when all their streams are taken.
    pub connections: usize,
    /// Requests under way at once; those that are due above it are not sent, and reported.
    pub max_in_flight: usize,
    /// Threads that send, at least 1. The pacing has its own.
    pub threads: usize,
    /// Makes the arrivals repeatable.
    pub seed: u64,
    /// A file for a line of CSV a request.
    pub log: Option<PathBuf>,
}

impl Plan {
    /// GET over HTTP/1.1, Poisson arrivals, 10 s timeout.
    pub fn new(url: http::Uri, rate: f64, duration: Duration) -> Self {
        Self {
            url,
            method: http::Method::GET,
            headers: http::HeaderMap::new(),
            body: Bytes::new(),
            protocol: Protocol::Http1,
            trust: Trust::System,
            rate: Rate::constant(rate),
            spacing: Spacing::Poisson,
            duration,
            timeout: Duration::from_secs(10),
            connections: 0,
            max_in_flight: 4096,
            threads: 1,
            seed: 0,
            log: None,
        }
    }
}

/// Ends a run early from another thread.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicU8>);

/// No more requests are sent.
const ENOUGH: u8 = 1;
/// Nor is waited for those under way.
const STOPPED: u8 = 2;

impl Stop {
    /// No more requests are sent; those under way have their whole timeout, so that each has an end.
    pub fn enough(&self) {
        self.0.fetch_max(ENOUGH, Relaxed);
    }

    /// No more requests are sent, and those under way have one second.
    pub fn stop(&self) {
        self.0.fetch_max(STOPPED, Relaxed);
    }

    pub(crate) fn is_enough(&self) -> bool {
        self.0.load(Relaxed) >= ENOUGH
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.load(Relaxed) >= STOPPED
    }
}

/// Why no load could be made at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{0}")]
    Plan(String),
    #[error("{host}: {error}")]
    Resolve { host: String, error: std::io::Error },
    #[error(transparent)]
    Trust(#[from] crate::tls::trust::TrustError),
    #[error("{file}: {error}")]
    Log { file: String, error: std::io::Error },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
