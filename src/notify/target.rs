//! The task of one target.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admin::view::Event;
use crate::config::types::Notify;
use crate::fetch::{self, Limits};

use super::Counts;
use super::line::{Batch, Line};
use super::message;
use super::pace::Pace;
use super::verdict::{Verdict, judge};

/// For one request.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(10), bytes: 64 * 1024 };
/// While there is nothing to send.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// See the module.
pub struct Target {
    config: Arc<Notify>,
    counts: Arc<Counts>,
    line: Line,
    pace: Pace,
    /// What is being sent, with the number of tries and the moment of the next.
    sending: Option<(Batch, u32, Instant)>,
}

impl Target {
    pub fn new(config: Arc<Notify>, counts: Arc<Counts>) -> Self {
        Self { config, counts, line: Line::default(), pace: Pace::default(), sending: None }
    }

    /// Until there are no more events, or it is told to end.
    pub async fn run(
        mut self,
        mut events: broadcast::Receiver<Arc<Event>>,
        mut ends: watch::Receiver<bool>,
    ) {
        loop {
            let wait = self.wait(Instant::now());
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.hear(event),
                    Err(RecvError::Lagged(missed)) => self.miss(missed),
                    Err(RecvError::Closed) => break,
                },
                () = tokio::time::sleep(wait) => self.send(false).await,
                () = ended(&mut ends) => break,
            }
        }
        while let Ok(event) = events.try_recv() {
            self.hear(event);
        }
        while self.sending.is_some() || !self.line.is_empty() {
            self.send(true).await;
        }
    }

    fn hear(&mut self, event: Arc<Event>) {
        if !event.quiet && self.config.events.contains(&message::name(&event)) {
            let lost = self.line.push(event);
            self.counts.dropped.fetch_add(lost, Relaxed);
        }
    }

    /// Events came faster than they were heard; how many of them were for this target nobody knows.
    fn miss(&mut self, events: u64) {
        self.line.lost(events);
        self.counts.dropped.fetch_add(events, Relaxed);
    }

    /// Until something can be sent.
    fn wait(&self, now: Instant) -> Duration {
        match &self.sending {
            Some((_, _, at)) => at.saturating_duration_since(now).max(self.pace.wait(now)),
            None if self.line.is_empty() => NEVER,
            None => self.pace.wait(now),
        }
    }

    /// One request. `last`: what is not taken now is given up.
    async fn send(&mut self, last: bool) {
        let next = || Some((self.line.take(message::most(self.config.kind))?, 0, Instant::now()));
        let Some((batch, tries, _)) = self.sending.take().or_else(next) else { return };
        self.pace.sent(Instant::now());
        let ask = message::ask(&self.config, &batch, SystemTime::now());
        let result = fetch::fetch(ask, LIMITS).await;
        let events = batch.events.len() as u64;
        match judge(&result, tries + 1) {
            Verdict::Taken => _ = self.counts.sent.fetch_add(events, Relaxed),
            Verdict::Again(wait, why) if !last => {
                if tries == 0 {
                    tracing::warn!(notify = %self.config.name, "not delivered, trying again: {why}");
                }
                self.sending = Some((batch, tries + 1, Instant::now() + wait));
            }
            Verdict::Again(_, why) | Verdict::GiveUp(why) => {
                tracing::warn!(notify = %self.config.name, "{events} events are not delivered: {why}");
                self.counts.failed.fetch_add(events, Relaxed);
            }
        }
    }
}

async fn ended(ends: &mut watch::Receiver<bool>) {
    // An error means that nobody holds the other end any more, which is the same.
    let _ = ends.wait_for(|end| *end).await;
}
