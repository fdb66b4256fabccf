//! Tells people and programs outside of what happens (`[[notify]]`): Slack-compatible webhooks and signed ones.
//!
//! Each target has one task that hears the same stream of events as `/v1/events`, keeps what concerns it in a
//! bounded line, and sends it at a pace that hooks take. What cannot be delivered is tried again for some
//! minutes, then given up and counted; nothing here ever waits for or holds up anything else. What an event is
//! called and how it reads is decided where it happens (`control::events`).

mod line;
mod message;
mod pace;
mod target;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use crate::admin::view::Event;
use crate::config::types::Notify;

/// What came of a target's events so far.
#[derive(Debug, Default)]
pub struct Counts {
    sent: AtomicU64,
    /// Refused, or not taken for too long.
    failed: AtomicU64,
    /// Too many at once.
    dropped: AtomicU64,
}

impl Counts {
    /// `sent`, `failed`, `dropped`, each with its number.
    pub fn read(&self) -> [(&'static str, u64); 3] {
        [
            ("sent", self.sent.load(Relaxed)),
            ("failed", self.failed.load(Relaxed)),
            ("dropped", self.dropped.load(Relaxed)),
        ]
    }
}

/// Everyone who is told.
#[derive(Debug, Default)]
pub struct Notifiers(BTreeMap<Arc<str>, Running>);

#[derive(Debug)]
struct Running {
    config: Arc<Notify>,
    counts: Arc<Counts>,
    /// Turned true: send what there is, once, and end.
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Notifiers {
    /// Tells these from now on. Who is as before goes on with what waits; who is gone ends once that was tried.
    pub fn configure(
        &mut self,
        targets: &[Arc<Notify>],
        events: impl Fn() -> broadcast::Receiver<Arc<Event>>,
    ) {
        let mut before = std::mem::take(&mut self.0);
        for config in targets {
            let name = config.name.clone();
            let running = match before.remove(&name) {
                Some(running) if running.config == *config => running,
                other => {
                    // Numbers go on under the same name.
                    let counts = other.as_ref().map(|o| o.counts.clone()).unwrap_or_default();
                    if let Some(other) = other {
                        let _ = other.end.send(true);
                    }
                    start(config.clone(), counts, events())
                }
            };
            self.0.insert(name, running);
        }
        for gone in before.into_values() {
            let _ = gone.end.send(true);
        }
    }

    /// Each target's name and counts.
    pub fn counts(&self) -> impl Iterator<Item = (&Arc<str>, &Counts)> {
        self.0.iter().map(|(name, running)| (name, &*running.counts))
    }

    /// Sends what there is, once, and ends: what is to be waited for.
    pub fn finish(&mut self, limit: Duration) -> impl Future<Output = ()> + use<> {
        let all = std::mem::take(&mut self.0);
        let tasks: Vec<_> = all
            .into_values()
            .map(|running| {
                let _ = running.end.send(true);
                running.task
            })
            .collect();
        async move {
            // What did not end within the limit ends with the process.
            let _ = tokio::time::timeout(limit, futures_util::future::join_all(tasks)).await;
        }
    }
}

fn start(
    config: Arc<Notify>,
    counts: Arc<Counts>,
    events: broadcast::Receiver<Arc<Event>>,
) -> Running {
    let (end, ends) = watch::channel(false);
    let target = target::Target::new(config.clone(), counts.clone());
    let task = tokio::spawn(target.run(events, ends));
    Running { config, counts, end, task }
}
