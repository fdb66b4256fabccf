//! The scaler's decision core: how many backends a service should have, and why.
//!
//! Everything here is a pure, synchronous function of (sample, history, now), so the live loop,
//! dry runs and a simulator run the same code. One tick, read from top to bottom, is
//! [`Scaler::tick`]; the order of the stages is [`pipeline::STAGES`]. Gathering samples, talking
//! to orchestrators, drains and clocks are left to the control plane.

pub mod cost;
pub mod explain;
#[cfg(test)]
pub(crate) mod fixture;
pub mod formula;
#[cfg(test)]
mod golden;
pub mod history;
pub mod journal;
mod journal_file;
pub mod learned;
pub mod memory;
pub mod operator;
pub mod outcome;
pub mod pipeline;
pub mod plan;
pub mod policy;
#[cfg(test)]
mod properties;
pub mod record;
mod refusal;
mod report;
pub mod sample;
pub mod scaler;
pub mod schedule;
pub mod season;
pub mod slo;
pub mod victims;
pub mod wall;

pub use journal::{Journal, JournalFile, Sink};
pub use learned::{Kept, Learned};
pub use operator::Override;
pub use plan::Plan;
pub use policy::{WINDOW, Wanted};
pub use record::{Action, Reason, Record, Stage};
pub use sample::{Candidate, Counts, Life, Sample, Signal, Traffic};
pub use scaler::{Scaler, Status, Tick};
pub use season::Season;
pub use wall::Wall;
