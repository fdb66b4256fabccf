//! What a scaler learned of its backends, kept over restarts: written into the journal when it is news,
//! read back at a start, and dropped when the backends are others. What it means is left to `scale`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::clock::Micros;
use crate::config::tree::{Node, Table};
use crate::config::types as config;
use crate::scale::{Kept, Learned, Scaler, Wall};

use super::core::Control;
use super::journal::Scribe;
use super::lock;

/// How often it is looked for news, and after how long old news is written again.
const LOOK: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(6 * 3600);

/// What is in the journal of one service.
#[derive(Debug, Default)]
pub struct Memory {
    /// What its backends are, in short.
    of: String,
    kept: Option<Kept>,
    due: Micros,
}

impl Memory {
    /// Goes on with what the journal has, as far as it holds for these backends.
    pub fn open(
        service: &config::Service,
        kept: Option<Kept>,
        now: Wall,
        scaler: Option<&mut Scaler>,
    ) -> Self {
        let of = fingerprint(service);
        if let (Some(kept), Some(scaler)) = (&kept, scaler)
            && let Some(learned) = kept.still(&of, now)
        {
            scaler.believe(&learned);
        }
        Self { of, kept, due: 0 }
    }

    /// The service has another configuration.
    pub fn configure(&mut self, service: &config::Service, scaler: &mut Scaler) {
        let of = fingerprint(service);
        if self.of != of {
            self.of = of;
            scaler.forget_learned();
        }
    }

    /// Writes down what is news, once in a while.
    pub fn tick(&mut self, now: Micros, wall: Wall, scaler: &Scaler, scribe: &Scribe) {
        if now < self.due {
            return;
        }
        if let Some(learned) = scaler.learned() {
            self.due = now + LOOK.as_micros() as Micros;
            self.write(wall, learned, scribe);
        }
    }

    fn write(&mut self, at: Wall, learned: Learned, scribe: &Scribe) {
        let known = |kept: &Kept| {
            let age = Duration::from_millis(at.0.saturating_sub(kept.at.0));
            kept.of == self.of && age < AGAIN && kept.learned.is_like(&learned)
        };
        if !self.kept.as_ref().is_some_and(known) {
            let kept = Kept { at, of: self.of.clone(), learned };
            scribe.learned(&kept);
            self.kept = Some(kept);
        }
    }

    /// For the process that takes over: as of now, and not as of the last time that it was news.
    pub fn pass_on(&self, at: Wall, scaler: &Scaler) -> Option<Kept> {
        Some(Kept { at, of: self.of.clone(), learned: scaler.learned()? })
    }

    /// From the process before this one.
    pub fn take_over(&mut self, kept: &Kept, scaler: &mut Scaler) {
        // Both processes may have read other configurations.
        if let Some(learned) = kept.still(&self.of, kept.at) {
            scaler.believe(&learned);
        }
    }
}

impl Control {
    /// What is learned and not written yet, at the end.
    pub(super) fn close_learned(&self) {
        let wall = self.clock.wall(self.clock.now()).into();
        for managed in lock(&self.managed).values() {
            let mut scaling = lock(&managed.scaling);
            let scaling = &mut *scaling;
            if let Some(learned) = scaling.scaler.as_ref().and_then(Scaler::learned) {
                scaling.learned.write(wall, learned, &scaling.scribe);
            }
        }
    }
}

/// What its backends are, wherever in the file that stands. Other words for it after an update of tidegate cost
/// no more than learning anew.
fn fingerprint(service: &config::Service) -> String {
    let mut hasher = DefaultHasher::new();
    for backend in &service.backends {
        format!("{backend:?}").hash(&mut hasher);
    }
    if let Some(orchestrator) = &service.orchestrator {
        orchestrator.kind.hash(&mut hasher);
        table(&orchestrator.table, &mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

fn table(of: &Table, hasher: &mut DefaultHasher) {
    let mut entries: Vec<_> = of.entries.iter().collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    for entry in entries {
        entry.key.hash(hasher);
        node(&entry.value.node, hasher);
    }
}

fn node(of: &Node, hasher: &mut DefaultHasher) {
    match of {
        Node::String(text) | Node::Datetime(text) => text.hash(hasher),
        Node::Integer(number) => number.hash(hasher),
        Node::Float(number) => number.to_bits().hash(hasher),
        Node::Bool(truth) => truth.hash(hasher),
        Node::Array(values) => {
            values.len().hash(hasher);
            values.iter().for_each(|value| node(&value.node, hasher));
        }
        Node::Table(inner) => {
            inner.entries.len().hash(hasher);
            table(inner, hasher);
        }
    }
}
