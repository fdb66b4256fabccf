//! The admin side: what tidegate tells about itself over HTTP, and what operators ask of it.
//!
//! [`view`] holds the JSON, [`Source`] is what the control plane implements to answer, the
//! rest is the server. It runs on the control runtime and takes nothing of the data path: a
//! blocked or hostile client of it costs one of a bounded number of connections, for a bounded time.

mod auth;
mod change;
mod events;
mod extract;
mod guard;
mod lockout;
mod password;
pub mod problem;
mod read;
mod router;
mod secure;
mod server;
mod socket;
pub mod source;
mod stall;
pub mod view;

pub use server::{AccessHandle, Server, Spare};
pub use socket::BindError;
pub use source::{NewBackend, Refusal, ScalingOrder, Source};

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
