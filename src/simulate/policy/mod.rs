//! Reference policies, as their authors published them, without our pipeline.
//!
//! Each sees what its original could measure, once a second, and answers with a size; periods,
//! windows and limits are its own. Adding one is a file, a line in [`Kind`] and its test.

mod aws;
mod behaviour;
mod exponential;
mod fixed;
mod hpa;
mod keda;
mod kpa;
mod linear;
mod oracle;
mod slo;

use crate::scale::slo::Params;

use super::load::Load;
use super::setting::Setting;

pub use slo::SloPolicy;

/// What a policy may know of the second that has just passed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    /// Seconds before this one.
    pub second: u64,
    /// Requests that came in it.
    pub arrivals: f64,
    /// Slots in use, the mean over the second.
    pub busy: f64,
    /// Requests that wait now.
    pub queued: f64,
    /// Requests that were dropped in it.
    pub dropped: f64,
    pub ready: u32,
    /// Ready and starting.
    pub size: u32,
    /// What is known of the lead time, in seconds.
    pub lead: f64,
    /// How long a request waited in its slot for what all backends share, the mean, in seconds.
    pub blocked: f64,
}

impl Seen {
    /// Requests in flight, as a proxy before the service counts them.
    pub fn in_flight(&self) -> f64 {
        self.busy + self.queued
    }
}

/// Decides how many backends there should be.
pub trait Policy: Send {
    /// Called at the end of every second; the answer is ordered at once.
    fn tick(&mut self, seen: &Seen) -> u32;

    /// For who knows the future: the size that is there at once for the coming second's rate.
    fn foresee(&mut self, _rate: f64) -> Option<u32> {
        None
    }

    /// A metric was lost this second: nothing new is known. The last size stands unless it is told otherwise.
    fn blind(&mut self, seen: &Seen) -> u32 {
        seen.size
    }
}

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Hpa,
    KedaHttp,
    Kpa,
    Slo,
    Aws,
    Linear,
    Exponential,
    Static,
    Oracle,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Hpa,
        Self::KedaHttp,
        Self::Kpa,
        Self::Slo,
        Self::Aws,
        Self::Linear,
        Self::Exponential,
        Self::Static,
        Self::Oracle,
    ];

    /// Its word on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hpa => "hpa",
            Self::KedaHttp => "keda-http",
            Self::Kpa => "kpa",
            Self::Slo => "slo",
            Self::Aws => "aws",
            Self::Linear => "linear",
            Self::Exponential => "exponential",
            Self::Static => "static",
            Self::Oracle => "oracle",
        }
    }

    /// As it is before the first second of a load.
    pub fn build(self, setting: &Setting, load: &Load) -> Box<dyn Policy> {
        match self {
            Self::Hpa => Box::new(hpa::Hpa::new(setting)),
            Self::KedaHttp => Box::new(keda::KedaHttp::new(setting)),
            Self::Kpa => Box::new(kpa::Kpa::new(setting)),
            Self::Slo => Box::new(slo::SloPolicy::new(setting, Params::default())),
            Self::Aws => Box::new(aws::TargetTracking::new(setting)),
            Self::Linear => Box::new(linear::Linear::new(setting)),
            Self::Exponential => Box::new(exponential::Exponential::new(setting)),
            Self::Static => Box::new(fixed::Fixed(setting.need(load.peak()))),
            Self::Oracle => Box::new(oracle::Oracle::new(setting)),
        }
    }
}

/// The last values of a signal, one a second.
#[derive(Debug, Clone)]
struct Window {
    values: std::collections::VecDeque<f64>,
    seconds: usize,
    sum: f64,
}

impl Window {
    fn new(seconds: usize) -> Self {
        Self { values: std::collections::VecDeque::with_capacity(seconds + 1), seconds, sum: 0.0 }
    }

    fn push(&mut self, value: f64) {
        self.values.push_back(value);
        self.sum += value;
        if self.values.len() > self.seconds {
            self.sum -= self.values.pop_front().unwrap_or(0.0);
        }
    }

    /// The mean of what it holds; 0 before the first value.
    fn mean(&self) -> f64 {
        if self.values.is_empty() { 0.0 } else { (self.sum / self.values.len() as f64).max(0.0) }
    }
}

/// The least whole number that is not below, as all of these compute it.
fn ceil(value: f64) -> u32 {
    // 2.0000000001 is 2.
    (value - 1e-9).ceil().max(0.0) as u32
}
