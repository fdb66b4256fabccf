//! Counters of one listener, shared by the workers, and of each worker thread.
//!
//! Connections are rarer than requests and their cap is global, so these are real atomic adds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::framing::Wrong;

use super::counter::{Counter, Label, labels};
use super::histogram::Histogram;

labels! {
    /// Why a connection was closed before it was served.
    Refusal {
        Cap = "max_connections",
        PerIp = "max_connections_per_ip",
        /// No file descriptor left (EMFILE, ENFILE).
        Descriptors = "descriptors",
        Handshake = "tls_handshake",
        UnknownSni = "unknown_sni",
        /// No PROXY header, or one that is not valid, where one is required.
        ProxyHeader = "proxy_header",
        /// A PROXY header is required, and the peer is not trusted to send one.
        Untrusted = "untrusted",
        /// Its client is banned.
        Banned = "banned",
        /// HTTP/3 above `max_memory`; others wait in the kernel's queue.
        Memory = "memory",
    }
}

labels! {
    /// What a client did too much, or too slowly; its connection or stream was ended for it.
    Flood {
        /// HTTP/2 streams that it opened and reset, more than `h2_resets_per_second`.
        RapidReset = "rapid_reset",
        /// HTTP/2 streams that it made us reset, by frames that are not allowed.
        MadeYouReset = "made_you_reset",
        /// Parts of one head.
        Continuation = "continuation",
        Settings = "settings",
        Ping = "ping",
        Priority = "priority",
        UnknownFrame = "unknown_frame",
        /// DATA frames with nothing in them.
        EmptyData = "empty_data",
        /// Windows that it opened by next to nothing.
        WindowUpdate = "window_update",
        /// Heads that are far larger unpacked than sent.
        Hpack = "hpack",
        /// Heads of more than `header_bytes`, or more than `header_count` headers.
        LargeHead = "large_head",
        /// Any other thing that the codec found too much.
        Other = "other",
        /// A stream whose window it did not open for `timeout.write`.
        StalledStream = "stalled_stream",
        /// A head that was not whole within `timeout.header`.
        SlowHead = "slow_head",
        /// A body of which nothing came for `timeout.body`.
        SlowBody = "slow_body",
        /// A connection of which nothing was read for `timeout.write`.
        SlowReader = "slow_reader",
        /// A TLS handshake or PROXY header that was not whole within `timeout.handshake`.
        SlowHandshake = "slow_handshake",
        /// Connections above `max_connections_per_ip`.
        Connections = "connections",
    }
}

/// Counters of one listener (shared by the workers).
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// How many of 65536 places have to leave: the listener is closed, or the process ends.
    leaving: AtomicU32,
    open: AtomicUsize,
    parked: AtomicUsize,
    accepted: AtomicU64,
    refused: [AtomicU64; Refusal::COUNT],
    floods: [AtomicU64; Flood::COUNT],
    /// By [`Wrong`]; the last is what the codec could not read.
    bad_requests: [AtomicU64; Wrong::ALL.len() + 1],
}

impl ListenerStats {
    /// That share of the connections is to end, each once nothing runs on it; 0..=1. It only grows.
    pub fn let_leave(&self, share: f64) {
        let places = (share * f64::from(u16::MAX) + 1.0) as u32;
        self.leaving.fetch_max(places, Relaxed);
    }

    /// Whether the connection of this place is to end.
    #[inline]
    pub fn leaves(&self, place: u16) -> bool {
        u32::from(place) < self.leaving.load(Relaxed)
    }

    /// Takes a place for one connection, at most `max` over all workers; refused and counted above it.
    pub fn admit(self: &Arc<Self>, max: usize) -> Option<Connection> {
        if self.open.fetch_add(1, Relaxed) >= max {
            self.open.fetch_sub(1, Relaxed);
            self.refuse(Refusal::Cap);
            return None;
        }
        self.accepted.fetch_add(1, Relaxed);
        Some(Connection(self.clone()))
    }

    pub fn refuse(&self, why: Refusal) {
        self.refused[why.index()].fetch_add(1, Relaxed);
        if why == Refusal::PerIp {
            self.flood(Flood::Connections);
        }
    }

    /// Something of a client's was ended because it was too much or too slow.
    pub fn flood(&self, kind: Flood) {
        self.floods[kind.index()].fetch_add(1, Relaxed);
    }

    pub fn floods(&self, kind: Flood) -> u64 {
        self.floods[kind.index()].load(Relaxed)
    }

    /// A client sent what is no request; `None`: the codec could not read it.
    pub fn bad_request(&self, why: Option<Wrong>) {
        self.bad_requests[why.map_or(Wrong::ALL.len(), |why| why as usize)].fetch_add(1, Relaxed);
    }

    /// What clients sent that was no request: reason and how often.
    pub fn bad_requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = Wrong::ALL.iter().map(|why| why.as_str()).chain(["syntax"]);
        reasons.zip(self.bad_requests.iter().map(|count| count.load(Relaxed)))
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Of those, the ones that are idle and hold no buffers.
    pub fn parked(&self) -> usize {
        self.parked.load(Relaxed)
    }

    /// A connection is parked until the guard is dropped.
    pub fn park(&self) -> Parked<'_> {
        self.parked.fetch_add(1, Relaxed);
        Parked(self)
    }

    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused[why.index()].load(Relaxed)
    }
}

/// One open connection; counts until it is dropped.
#[derive(Debug)]
pub struct Connection(Arc<ListenerStats>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// One parked connection; counts until it is dropped.
#[derive(Debug)]
pub struct Parked<'a>(&'a ListenerStats);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked.fetch_sub(1, Relaxed);
    }
}

/// Counters of one worker thread.
#[derive(Debug, Default)]
pub struct WorkerStats {
    /// How late a periodic tick of the worker's runtime came.
    pub stall: Histogram,
    /// Panics caught in a connection's task.
    pub panics: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_until_it_is_dropped_and_the_cap_holds() {
        let stats = Arc::new(ListenerStats::default());
        let first = stats.admit(1).expect("below the cap");
        assert!(stats.admit(1).is_none());
        assert_eq!((stats.open(), stats.accepted(), stats.refused(Refusal::Cap)), (1, 1, 1));
        drop(first);
        assert_eq!(stats.open(), 0);
        assert!(stats.admit(1).is_some());
    }
}
