//! `runtime.max_memory`: reads how much memory this process has, lets it give back what it does not use, and tells the
//! data plane what to refuse. The decision is `memory::level`'s; nothing of this is there without a limit.
//!
//! The control plane looks, as it has to read a file; what follows from it costs requests nothing: the classes that are
//! refused are in the word that says whether a service is overloaded, and accepting looks at one more flag.

use std::sync::Arc;
use std::time::Duration;

use crate::config::types::Priority;
use crate::memory::level::{Level, Monitor, News};
use crate::memory::resident;
use crate::telemetry::ShedReason;

use super::core::Control;
use super::events::{Kind, PressureStep};
use super::lock;

/// How often memory is read. A burst of 1 GB/s is 100 MB further by then.
const EVERY: Duration = Duration::from_millis(100);
/// Without a limit: how often it is looked whether there is one by now.
const UNLIMITED: Duration = Duration::from_secs(1);

/// What is known of the memory of this process.
#[derive(Debug, Default)]
pub struct Memory {
    monitor: Option<Monitor>,
    bytes: u64,
    given_back: u64,
    /// Requests that had been refused for want of memory when that was told last to begin.
    refused_before: u64,
    /// It was said that it cannot be read.
    blind: bool,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub bytes: u64,
    pub limit_bytes: u64,
    pub level: Level,
    /// Times that unused memory was given back.
    pub given_back: u64,
}

/// Looks for as long as the process runs.
pub(super) async fn run(control: Arc<Control>) {
    loop {
        control.look_at_memory().await;
        let limited = control.memory().is_some();
        tokio::time::sleep(if limited { EVERY } else { UNLIMITED }).await;
    }
}

impl Control {
    /// `None`: there is no limit.
    pub fn memory(&self) -> Option<Reading> {
        lock(&self.memory).reading()
    }

    async fn look_at_memory(&self) {
        let limit = lock(&self.applied).taken.config.runtime.max_memory;
        let Some(limit) = limit else { return self.forget_memory() };
        lock(&self.memory).follow(limit);
        let bytes = match self.read_memory() {
            Some(bytes) if self.wants_back(bytes) => {
                self.plane.give_back().await;
                lock(&self.memory).given_back += 1;
                self.read_memory()
            }
            bytes => bytes,
        };
        let Some(bytes) = bytes else { return };
        let news = {
            let mut memory = lock(&self.memory);
            memory.bytes = bytes;
            let Some(monitor) = &mut memory.monitor else { return };
            let news = monitor.look(bytes, self.clock.now());
            // Who reads the level finds it done.
            self.refuse(monitor.level());
            news
        };
        if let Some(news) = news {
            self.tell_of_memory(news, bytes, limit);
        }
    }

    /// There is no limit (any more).
    fn forget_memory(&self) {
        let (monitor, bytes) = {
            let mut memory = lock(&self.memory);
            if memory.monitor.is_some() {
                // Who finds that there is none finds it done.
                self.refuse(Level::Calm);
            }
            (memory.monitor.take(), memory.bytes)
        };
        let Some(monitor) = monitor else { return };
        let limit = monitor.limit();
        if let Some(news) = monitor.end() {
            self.tell_of_memory(news, bytes, limit);
        }
    }

    fn wants_back(&self, bytes: u64) -> bool {
        let now = self.clock.now();
        let mut memory = lock(&self.memory);
        let wants = memory.monitor.as_mut().filter(|monitor| monitor.wants_back(bytes, now));
        wants.map(|monitor| monitor.gave_back(now)).is_some()
    }

    fn read_memory(&self) -> Option<u64> {
        match resident() {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                if !std::mem::replace(&mut lock(&self.memory).blind, true) {
                    tracing::warn!("runtime.max_memory has no effect: /proc/self/statm: {error}");
                }
                None
            }
        }
    }

    /// Lets the data plane do as the level says. Services and listeners that are new are told with the next look.
    fn refuse(&self, level: Level) {
        let lowest = match level {
            Level::Calm | Level::Trim => Some(Priority::Sheddable),
            Level::Shed => Some(Priority::Normal),
            Level::Critical | Level::Full => Some(Priority::Critical),
            Level::Over => None,
        };
        for service in &self.plane.current().services {
            service.admission.spare(lowest);
        }
        self.plane.set_memory(level >= Level::Critical, level >= Level::Full);
    }

    fn tell_of_memory(&self, news: News, bytes: u64, limit: u64) {
        let total = self.refused_for_memory();
        let before = {
            let memory = &mut *lock(&self.memory);
            if matches!(news, News::Begun(_)) {
                memory.refused_before = total;
            }
            memory.refused_before
        };
        let (step, level, peak) = match news {
            News::Begun(level) => (PressureStep::Begun, level, bytes),
            News::Worse { level, peak } => (PressureStep::Worse, level, peak),
            News::Over { worst, peak } => (PressureStep::Ended, worst, peak),
        };
        let kind = Kind::MemoryPressure {
            step,
            level: level.as_str(),
            bytes,
            limit_bytes: limit,
            peak_bytes: peak,
            // A service that went took its count along.
            refused: total.saturating_sub(before),
        };
        self.events.send(None, kind);
    }

    fn refused_for_memory(&self) -> u64 {
        let services = &self.plane.current().services;
        let refused = |stats: &crate::telemetry::ServiceStats| stats.shed.get(ShedReason::Memory);
        services.iter().map(|service| service.stats.sum(refused)).sum()
    }
}

impl Memory {
    /// Takes up the limit of the configuration.
    fn follow(&mut self, limit: u64) {
        let monitor = self.monitor.get_or_insert_with(|| Monitor::new(limit));
        if monitor.limit() != limit {
            monitor.set_limit(limit);
        }
    }

    fn reading(&self) -> Option<Reading> {
        let monitor = self.monitor.as_ref()?;
        Some(Reading {
            bytes: self.bytes,
            limit_bytes: monitor.limit(),
            level: monitor.level(),
            given_back: self.given_back,
        })
    }
}
