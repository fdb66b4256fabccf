//! tidegate: a layer-7 load-balancing reverse proxy with a built-in scaler.

pub mod admin;
#[cfg(test)]
mod architecture;
pub mod balance;
mod base64;
mod builder;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod discovery;
pub mod ewma;
pub mod fetch;
pub mod framing;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod http;
mod http2;
pub mod http3;
pub mod limits;
pub mod listener;
pub mod load;
pub mod memory;
pub mod notify;
pub mod orchestrator;
pub mod origin;
pub mod overload;
pub mod proxy;
pub mod registry;
pub mod route;
pub mod scale;
pub mod signals;
pub mod simulate;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod units;
pub mod upstream;
mod websocket;
pub mod worker;

pub use builder::Builder;
