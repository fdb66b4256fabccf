//! The admin side: what tidegate tells about itself over HTTP, and what operators ask of it.
//!
//! [`view`] holds the JSON, [`Source`] is what the control plane implements to answer, the
//! rest is the server. It runs on the control runtime and takes nothing of the data path: a
//! blocked or hostile client of it costs one of a bounded number of connections, for a bounded time.

pub mod source;
pub mod view;

pub use source::{Refusal, ScalingOrder, Source};
