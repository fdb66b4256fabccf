//! Signals, as what they ask for.

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT, by name.
    Stop(&'static str),
    /// HUP
    Reload,
    /// USR1
    ReopenLogs,
    /// USR2
    HandOver,
}

/// The signals that are listened to, from the making of this value on.
pub struct Signals {
    term: Stream,
    int: Stream,
    hup: Stream,
    usr1: Stream,
    usr2: Stream,
}

impl Signals {
    /// # Errors
    /// The system refuses a handler.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::Stop("TERM"),
            _ = self.int.recv() => Signal::Stop("INT"),
            _ = self.hup.recv() => Signal::Reload,
            _ = self.usr1.recv() => Signal::ReopenLogs,
            _ = self.usr2.recv() => Signal::HandOver,
        }
    }

    /// Resolves with the next TERM or INT.
    pub async fn second_stop(&mut self) {
        while !matches!(self.next().await, Signal::Stop(_)) {}
    }
}
