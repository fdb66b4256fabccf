//! What HTTP/3 connections are held to below HTTP: the listener's certificates with the protocol "h3", and
//! bounds of what one connection may make us keep.
//!
//! A connection holds at most [`RECEIVE`] bytes that nobody has read yet, [`SEND`] bytes that its client has
//! not acknowledged, and for each of its requests a head. There is no 0-RTT: what a client says first may be
//! said again by others (RFC 8470), and only some applications can bear that.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::{TransportConfig, VarInt};

use crate::config::types::Listener;

/// What one stream may send before it is read.
const STREAM_RECEIVE: u32 = 256 << 10;
/// What all streams of a connection may.
const RECEIVE: u32 = 1 << 20;
/// What is kept until it was acknowledged.
const SEND: u64 = 1 << 20;
/// Streams of one direction: HTTP/3 has three, and some clients try whether others are borne.
const ONE_WAY_STREAMS: u32 = 8;
/// A client that is gone is noticed after this time at least and at most.
const IDLE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// How often a connection is kept alive at least: clients give up after 30 s or more without a packet.
const ALIVE: Duration = Duration::from_secs(25);
/// Attempts that wait to be looked at, by one worker on one address, and bytes that came with them.
const INCOMING: usize = 1024;
const INCOMING_BYTES: u64 = 16 << 10;
const ALL_INCOMING_BYTES: u64 = 4 << 20;

/// All of a listener that it depends on, besides TLS.
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    streams: u32,
    keep_alive: Duration,
}

impl Settings {
    pub(super) fn of(listener: &Listener) -> Self {
        Self { streams: listener.limit.h2_streams, keep_alive: listener.timeout.keep_alive }
    }
}

/// The settings of a listener's endpoints and connections.
pub(super) fn server(
    settings: &Settings,
    tls: &rustls::ServerConfig,
) -> Result<Arc<quinn::ServerConfig>, NoInitialCipherSuite> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.max_early_data_size = 0;
    let mut transport = TransportConfig::default();
    // How long idle connections stay is decided above; here only who does not answer any more is found.
    let idle = settings.keep_alive.clamp(IDLE.0, IDLE.1);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(settings.streams))
        .max_concurrent_uni_streams(VarInt::from_u32(ONE_WAY_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE))
        .receive_window(VarInt::from_u32(RECEIVE))
        .send_window(SEND)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(idle.try_into().ok())
        .keep_alive_interval(Some(ALIVE.min(idle / 3)));
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    server
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(ALL_INCOMING_BYTES);
    Ok(Arc::new(server))
}
