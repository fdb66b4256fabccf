//! What a client connection waits for, and for how long: its next request, the rest of a head,
//! a client that does not read. The codec has no timers of its own; after each of its polls
//! [`Watch`] looks at the notes and arms the connection's one timer when the wait has changed.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::Micros;
use crate::framing::Wrong;

use super::client::Client;

/// An idle connection that is to end waits this long for a request that is on its way.
pub const LAST_CALL: Duration = Duration::from_secs(1);
/// An HTTP/1 connection that was idle for so long is parked; see [`super::park`].
const PARK: Duration = Duration::from_secs(1);

/// Why serving stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The codec is done; false: with an error.
    Done(bool),
    /// Idle for too long.
    Idle,
    /// Idle for long enough that the codec can be dropped meanwhile.
    Park,
    HeadTimedOut,
    /// What comes next is no request.
    Wrong(Wrong),
    /// The client reads nothing.
    Stalled,
    /// The client left while its request waited for a backend.
    Gone,
}

/// What a connection waits for; a change of it sets the timer anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// An exchange runs; its own timers count.
    Busy,
    /// For the next request, after so many.
    Idle { after: u64, until: Until },
    /// For the rest of a head.
    Head { after: u64 },
    /// For the client to read; the number changes when it does.
    Write { progress: u32 },
}

/// What ends an idle wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// It can be parked.
    Park,
    /// It was idle for `timeout.keep_alive`.
    Close,
    /// The same since memory became scarce, which is sooner.
    Early,
    /// The process or the listener ends: only a request that is on its way is waited for.
    LastCall,
}

/// Keeps the waits of one connection while a codec runs on it.
pub struct Watch<'a> {
    client: &'a Client,
    /// Bytes between exchanges are a head, and the connection may be parked.
    http1: bool,
    phase: Phase,
}

impl<'a> Watch<'a> {
    pub fn new(client: &'a Client, http1: bool) -> Self {
        client.timer.disarm();
        Self { client, http1, phase: Phase::Busy }
    }

    /// To be asked whenever the codec has nothing to do: ready when a wait took too long.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Some(wrong) = self.client.wrong() {
            return Poll::Ready(End::Wrong(wrong));
        }
        if self.client.poll_departure(cx).is_ready() {
            return Poll::Ready(End::Gone);
        }
        loop {
            let phase = self.look();
            if phase != self.phase {
                self.enter(phase);
            }
            // Also when nothing is armed: the worker wakes everyone when it stops.
            if self.client.timer.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
            return Poll::Ready(match phase {
                Phase::Write { .. } => End::Stalled,
                Phase::Head { .. } => End::HeadTimedOut,
                Phase::Idle { until: Until::Park, after } => {
                    if self.client.is_settled() {
                        return Poll::Ready(End::Park);
                    }
                    self.enter(Phase::Idle { after, until: Until::Close });
                    continue;
                }
                Phase::Idle { .. } | Phase::Busy => End::Idle,
            });
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let Client { timer, worker, listener, .. } = self.client;
        let timeout = &listener.config.timeout;
        match phase {
            Phase::Busy => timer.disarm(),
            Phase::Idle { after, until } => {
                let now = worker.now();
                let closes = self.client.idle_until(after, now);
                match until {
                    Until::Park => timer.arm(closes.min(later(now, PARK))),
                    Until::Close | Until::Early => timer.arm(closes),
                    Until::LastCall => timer.arm_in(now, LAST_CALL),
                }
            }
            Phase::Head { .. } => timer.arm_in(worker.now(), timeout.header),
            Phase::Write { .. } => timer.arm_in(worker.now(), timeout.write),
        }
    }

    fn look(&self) -> Phase {
        let client = self.client;
        if let Some(progress) = client.notes.stalled() {
            return Phase::Write { progress };
        }
        let after = client.begun();
        // HTTP/2: nothing else can come before it is whole, whatever runs meanwhile.
        if client.notes.in_head.get() {
            return Phase::Head { after };
        }
        if client.is_active() {
            client.notes.read.set(false);
            return Phase::Busy;
        }
        let started = match self.phase {
            Phase::Head { after: then } => then == after,
            _ => false,
        };
        if self.http1 && (client.notes.read.take() || started) {
            return Phase::Head { after };
        }
        let until = match self.phase {
            _ if client.leaves() => Until::LastCall,
            // HTTP/1 is parked, and looks for itself.
            _ if !self.http1 && client.is_scarce() => Until::Early,
            Phase::Idle { after: then, until: Until::Close } if then == after => Until::Close,
            _ if self.http1 && client.listener.config.timeout.keep_alive > PARK => Until::Park,
            _ => Until::Close,
        };
        Phase::Idle { after, until }
    }
}

fn later(now: Micros, wait: Duration) -> Micros {
    now.saturating_add(wait.as_micros() as Micros)
}
