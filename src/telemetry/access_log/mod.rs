//! The access log: one line for each finished request.
//!
//! A worker formats into its own buffer and hands full ones to one writer thread through a bounded
//! channel. A sink that is full or blocked costs lines, which are counted, and never a request. With the
//! log off there is no [`AccessLog`] and a request pays one branch. Headers that carry secrets
//! (Authorization, Cookie) are not among the fields, so they cannot be written.

mod format;
mod sink;

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use crate::clock::Micros;
use crate::config::types::{AccessFormat, AccessLog as Config};

use format::Stamp;
use sink::{Message, Sink};

/// A buffer is handed over once it is this full.
const BUFFER: usize = 32 * 1024;
/// Buffers that may wait for the sink: 2 MiB of lines.
const WAITING: usize = 64;

/// One finished request.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When its head was complete.
    pub time: SystemTime,
    pub request_id: &'a str,
    pub client: IpAddr,
    pub listener: &'a str,
    pub route: &'a str,
    pub service: &'a str,
    /// The last one it was sent to; empty = none.
    pub backend: &'a str,
    pub method: &'a str,
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    pub version: http::Version,
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// To the end of the answer.
    pub duration: Micros,
    /// To the head of the answer; `None`: there was none from a backend.
    pub ttfb: Option<Micros>,
    pub retries: u32,
    /// Why tidegate answered by itself, or the answer was cut short.
    pub error: Option<&'a str>,
    /// How the last try failed, if no backend answered.
    pub failed: Option<Failed>,
    pub user_agent: Option<&'a [u8]>,
    pub referer: Option<&'a [u8]>,
}

/// How the last try failed.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// What was done then: `connecting`, `sending` the request, `waiting` for the head of the answer.
    pub phase: &'static str,
    /// Since the backend was picked.
    pub after: Micros,
}

/// An access log that is on, shared by the workers; put into the snapshot.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessFormat,
    sample: f64,
    to: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the sink and starts the writer thread; `None` if the log is off. Lines that are lost are
    /// added to `dropped`, which outlives reloads. The thread ends with the last user of the log.
    pub fn open(config: &Config, dropped: Arc<AtomicU64>) -> io::Result<Option<Arc<Self>>> {
        if !config.enabled {
            return Ok(None);
        }
        let sink = Sink::open(config.path.as_deref())?;
        Self::start(config, sink, dropped).map(Some)
    }

    fn start(config: &Config, sink: Sink, dropped: Arc<AtomicU64>) -> io::Result<Arc<Self>> {
        let (to, from) = sync_channel(WAITING);
        let lost = dropped.clone();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || sink.run(&from, &lost))?;
        Ok(Arc::new(Self { format: config.format, sample: config.sample, to, dropped }))
    }

    /// Opens the file again (SIGUSR1, after it was moved away). Nothing for standard output.
    pub fn reopen(&self) {
        let _ = self.to.try_send(Message::Reopen);
    }

    /// Waits until what was handed over before is written, at most `limit`. False: the sink is stuck.
    /// Blocks its thread: for the end of the process.
    pub fn drain(&self, limit: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        self.to.try_send(Message::Drain(done)).is_ok() && wait.recv_timeout(limit).is_ok()
    }
}

/// One worker's end of an access log.
#[derive(Debug)]
pub struct Writer {
    log: Arc<AccessLog>,
    buffer: Vec<u8>,
    lines: u64,
    stamp: Stamp,
}

impl Writer {
    pub fn new(log: Arc<AccessLog>) -> Self {
        Self { log, buffer: Vec::new(), lines: 0, stamp: Stamp::default() }
    }

    /// Whether this writer writes to that log; after a reload it may not.
    pub fn is_of(&self, log: &Arc<AccessLog>) -> bool {
        Arc::ptr_eq(&self.log, log)
    }

    /// Whether a request is written: errors (4xx, 5xx, cut short) always, others by the sampled share.
    /// To be asked before a [`Record`] is made.
    #[inline]
    pub fn wants(&self, status: u16, failed: bool, rng: &mut fastrand::Rng) -> bool {
        failed || status >= 400 || self.log.sample >= 1.0 || rng.f64() < self.log.sample
    }

    /// Writes one line; hands the buffer over when it is full.
    pub fn write(&mut self, record: &Record<'_>) {
        match self.log.format {
            AccessFormat::Json => format::json(&mut self.buffer, &mut self.stamp, record),
            AccessFormat::Combined => format::combined(&mut self.buffer, &mut self.stamp, record),
        }
        self.lines += 1;
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    /// Hands over what there is. To be called about once a second and at the end.
    pub fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        // One buffer more than a line over the mark, so that it does not grow on the way.
        let bytes = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER + 1024));
        match self.log.to.try_send(Message::Lines { bytes, lines }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.log.dropped.fetch_add(lines, Relaxed);
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
    }
}
