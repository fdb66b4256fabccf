//! What the halves of an HTTP/2 stream are to us, whichever side opened it: a body that comes, a body that is being sent,
//! a tunnel (RFC 9113, RFC 8441).
//!
//! The `h2` crate speaks the protocol; connections are run by `http::http2` towards clients, by `upstream::http2`
//! towards backends.

mod incoming;
mod sending;
mod tunnel;

pub use incoming::Incoming;
pub use sending::Sending;
pub use tunnel::Tunnel;
