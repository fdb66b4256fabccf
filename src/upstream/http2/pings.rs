//! Finds a connection that is dead without a word: in use and silent, it is asked whether it lives (RFC 9113 §6.7).

use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};

use crate::clock::{Clock, Micros};
use crate::worker::timers::Timer;

/// A connection in use that says nothing for so long is asked whether it lives.
const EVERY: Duration = Duration::from_secs(10);
/// And is given up if that is not answered.
const WAIT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Pings {
    pong: PingPong,
    timer: Timer,
    clock: Clock,
    state: State,
    /// As many reads brought something.
    reads: u32,
    /// When the last did.
    heard: Micros,
}

enum State {
    /// It was not in use when that was last looked at.
    Quiet,
    /// The timer runs to when it may have been silent for long.
    Waits,
    /// The timer runs to when the answer is overdue.
    Asked,
}

impl Pings {
    pub(super) fn new(pong: PingPong, timer: Timer, clock: Clock) -> Self {
        let heard = clock.now();
        Self { pong, timer, clock, state: State::Quiet, reads: 0, heard }
    }

    /// `reads`: changes when something was read.
    pub(super) fn heard(&mut self, reads: u32) {
        if self.reads != reads {
            self.reads = reads;
            self.heard = self.clock.now();
        }
    }

    /// Ready when the connection is dead. To be asked before the connection is polled, which writes the ping.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, in_use: bool) -> Poll<()> {
        loop {
            match self.state {
                State::Quiet if in_use => {
                    // After a long rest it is asked at once.
                    self.timer.arm_in(self.heard, EVERY);
                    self.state = State::Waits;
                }
                State::Quiet => return Poll::Pending,
                State::Waits => {
                    ready!(self.timer.poll_expired(cx));
                    self.timer.disarm();
                    let now = self.clock.now();
                    if !in_use {
                        self.state = State::Quiet;
                    } else if now < self.heard.saturating_add(EVERY.as_micros() as Micros) {
                        self.timer.arm_in(self.heard, EVERY);
                    } else {
                        if self.pong.send_ping(Ping::opaque()).is_err() {
                            // It has ended, which it says itself.
                            return Poll::Pending;
                        }
                        self.timer.arm_in(now, WAIT);
                        self.state = State::Asked;
                    }
                }
                State::Asked => {
                    if self.pong.poll_pong(cx).is_pending() {
                        return self.timer.poll_expired(cx);
                    }
                    self.timer.disarm();
                    self.state = State::Quiet;
                    self.heard = self.clock.now();
                }
            }
        }
    }
}
