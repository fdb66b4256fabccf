//! Sockets and connections: bind, accept, handshake, and hand over to HTTP.

pub mod accept;
pub mod bind;
pub mod closing;
pub mod conn;
pub mod departure;
pub mod frames;
pub mod given;
pub mod multiplexed;
pub mod passing;
pub mod per_address;
pub mod proxy_header;
pub mod quic;
mod relay;
mod steer;
pub mod stream;
mod strict;
pub mod udp;
