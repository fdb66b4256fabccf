//! `[[notify]]`: who is told of what happens.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Secret, Url};

/// Names of what can be told, as `/v1/events` has them in `data.kind`.
pub const EVENTS: [&str; 26] = [
    "backend_ejected",
    "backend_state",
    "backend_unejected",
    "ban",
    "certificate",
    "crash",
    "discovered",
    "discovery_failed",
    "drain",
    "flood",
    "handed_over",
    "handover_failed",
    "healing",
    "memory_pressure",
    "no_healthy_backends",
    "operator",
    "orchestrator_failed",
    "reload",
    "reload_failed",
    "replaced",
    "request_flood",
    "scale_blocked",
    "scaled",
    "shared_limits",
    "shed",
    "stopping",
];

/// `[[notify]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    pub name: Arc<str>,
    pub kind: NotifyKind,
    pub url: Url,
    /// Where the URL was read, if not from the configuration itself.
    pub url_file: Option<PathBuf>,
    /// Signs webhooks.
    pub secret: Option<Secret>,
    /// Of [`EVENTS`].
    pub events: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyKind {
    /// Slack's incoming webhooks, and whatever takes the same (Mattermost, Discord's `/slack`).
    Slack,
    /// One event in JSON a request.
    Webhook,
}

impl Notify {
    /// Files that it was read from.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let secret = self.secret.as_ref().and_then(|secret| secret.file.clone());
        self.url_file.clone().into_iter().chain(secret)
    }
}
