//! Signals from elsewhere (`[metric.NAME]`): asked for now and then, read by the scaler at each tick.
//!
//! Each metric has a task that asks, waits its interval and asks again; what it got last is kept
//! with the time it came. A failure keeps the value until it is stale; then there is none, and the
//! policies that need it hold. What a number means is left to the policies.

mod http;
mod redis;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::clock::{Clock, Micros};
use crate::config::types::{ExternalMetric, MetricSource};
use crate::fetch::FetchError;

/// A number from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    pub value: f64,
    /// Age of the oldest job in seconds, where the source tells it.
    pub oldest: Option<f64>,
}

/// Why there is no number.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    #[error(transparent)]
    Fetch(Box<FetchError>),
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("the answer is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("redis: {0}")]
    Redis(String),
    #[error("prometheus: {0}")]
    Prometheus(String),
    #[error("{0}")]
    NoNumber(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// All metrics that are configured, and what they were last.
#[derive(Debug, Default)]
pub struct Signals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The configuration that is followed; another one is another allocation.
    of: Vec<Arc<ExternalMetric>>,
    sources: BTreeMap<Arc<str>, Source>,
}

#[derive(Debug)]
struct Source {
    metric: Arc<ExternalMetric>,
    latest: Latest,
    task: AbortHandle,
}

/// What came last, and when it was asked for.
type Latest = Arc<Mutex<Option<(Micros, Reading)>>>;

impl Signals {
    /// Follows a configuration: asks for what is new, leaves alone what stayed, forgets the rest.
    /// Cheap when it is the one of before. Needs a runtime.
    pub fn follow(&self, metrics: &[Arc<ExternalMetric>], clock: &Clock) {
        let mut state = lock(&self.0);
        let same = state.of.len() == metrics.len()
            && state.of.iter().zip(metrics).all(|(a, b)| Arc::ptr_eq(a, b));
        if same {
            return;
        }
        state.of = metrics.to_vec();
        let mut before = std::mem::take(&mut state.sources);
        for metric in metrics {
            let kept = before.remove(&metric.name).filter(|source| source.metric == *metric);
            let source = kept.unwrap_or_else(|| Source::start(metric.clone(), clock.clone()));
            state.sources.insert(metric.name.clone(), source);
        }
        // What is dropped here ends its task.
    }

    /// The last value and its age; `None` when there is none or it is stale.
    pub fn read(&self, name: &str, now: Micros) -> Option<(Reading, Duration)> {
        let state = lock(&self.0);
        let source = state.sources.get(name)?;
        let (at, reading) = (*lock(&source.latest))?;
        let age = Duration::from_micros(now.saturating_sub(at));
        (age <= source.metric.stale_after).then_some((reading, age))
    }
}

impl Source {
    fn start(metric: Arc<ExternalMetric>, clock: Clock) -> Self {
        let latest = Latest::default();
        let task = tokio::spawn(ask_on(metric.clone(), latest.clone(), clock)).abort_handle();
        Self { metric, latest, task }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks at every interval, for as long as the task lives.
async fn ask_on(metric: Arc<ExternalMetric>, latest: Latest, clock: Clock) {
    let mut timer = tokio::time::interval(metric.interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        timer.tick().await;
        // The age counts from the question: the answer is not newer than that.
        let at = clock.now();
        match ask(&metric).await {
            Ok(reading) => {
                *lock(&latest) = Some((at, reading));
                if failing {
                    tracing::info!("metric {}: answers again", metric.name);
                }
                failing = false;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!("metric {}: {error}", metric.name);
                }
                failing = true;
            }
        }
    }
}

/// Asks once.
async fn ask(metric: &ExternalMetric) -> Result<Reading, SignalError> {
    let limit = metric.timeout;
    let asked = async {
        match &metric.source {
            MetricSource::RedisList { at, database, key } => {
                redis::list_length(at, *database, key).await
            }
            MetricSource::Prometheus { at, query } => http::prometheus(at, query, limit).await,
            MetricSource::HttpJson { at, pointer, age_pointer } => {
                http::json(at, pointer, age_pointer.as_deref(), limit).await
            }
        }
    };
    tokio::time::timeout(limit, asked).await.unwrap_or(Err(SignalError::Timeout(limit)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
