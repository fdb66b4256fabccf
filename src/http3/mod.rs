//! HTTP/3 from clients (RFC 9114), over QUIC connections that [`crate::listener::quic`] accepted.
//!
//! Requests go the same way as those of HTTP/1 and 2 from [`crate::proxy::handle`] on. What is here is
//! what lies below it: frames, fields, control streams, GOAWAY. It is written for this place rather than
//! taken from a library, because a proxy has to refuse what a client library may overlook: pseudo-header
//! fields that come twice or late, a body that is cut short within a frame, a head of any length that is
//! collected before it is looked at. What was told to [`qpack`] about tables keeps it small.
//!
//! No request is taken from early data: 0-RTT is off in [`crate::tls`], as it can be replayed (RFC 8470).

mod answer;
mod body;
mod code;
pub mod connection;
mod control;
mod frame;
mod head;
pub mod qpack;
mod request;

pub use code::EXCESSIVE_LOAD;
