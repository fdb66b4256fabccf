//! HTTP on the client's side: what a request is held to, what is added to it and taken from it,
//! and the answers that tidegate gives itself.

pub mod client;
mod closing;
pub mod cookies;
pub mod date;
pub mod early;
pub mod fault;
pub mod fields;
pub mod forwarded;
pub mod headers;
pub mod hops;
pub mod host;
pub mod http2;
pub mod interim;
pub mod orca;
pub mod park;
pub mod request_id;
pub mod respond;
pub mod serve;
pub mod streams;
#[cfg(test)]
mod tests;
pub mod tunnel;
pub mod watch;
