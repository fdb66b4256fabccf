//! Recording what arrives at a service, second by second, for `tidegate simulate --trace`: on and off by the admin API,
//! off after a restart. Files are rotated, so that a recording that is forgotten does not fill the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::admin::{Refusal, view};

use super::core::Control;
use super::journal::Scribe;
use super::life::TICK;
use super::lock;

/// What is recorded now, by service.
pub type Recordings = BTreeMap<Arc<str>, Scribe>;

impl Control {
    /// Turns the recording of a service on or off.
    ///
    /// # Errors
    /// There is no such service.
    pub fn record(&self, service: &str, on: bool) -> Result<view::Recording, Refusal> {
        let known = lock(&self.registry).services().find(|name| ***name == *service).cloned();
        let name = known
            .ok_or_else(|| Refusal::NotFound(format!("There is no service \"{service}\".")))?;
        let scribe = self.scribes.recording(&name);
        // Whoever reads it may be in another folder than we are.
        let path = scribe.path();
        let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let file = file.display().to_string();
        let mut recordings = lock(&self.recordings);
        match on {
            true => _ = recordings.entry(name).or_insert(scribe),
            false => _ = recordings.remove(service),
        }
        Ok(view::Recording { on, file })
    }

    /// Once a second: a row for each service that is recorded. Services that are gone are no longer.
    pub(super) fn write_recordings(&self) {
        let registry = lock(&self.registry);
        let mut recordings = lock(&self.recordings);
        recordings.retain(|name, _| registry.pool(name).is_some());
        drop(registry);
        if recordings.is_empty() {
            return;
        }
        let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let windows = lock(&self.windows);
        for (name, scribe) in recordings.iter() {
            if let Some(reading) = windows.service(name, TICK) {
                scribe.row(second, (reading.rps * reading.span.as_secs_f64()).round() as u64);
            }
        }
    }
}
