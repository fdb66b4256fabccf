//! Who a request is really from, and what the backend is told about it.
//!
//! Headers: interfaces.md "Headers".

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::config::types as config;

/// The other end of one client connection. Made once per connection (after a PROXY header).
#[derive(Debug, Clone)]
pub struct Peer {
    /// Never an IPv4 address mapped into IPv6.
    pub ip: IpAddr,
    /// It is one of the listener's `trusted_proxies`.
    pub trusted: bool,
    pub tls: bool,
    /// `ip` as text, ready to be sent.
    text: HeaderValue,
}

impl Peer {
    pub fn new(ip: IpAddr, tls: bool, trusted_proxies: &[IpNet]) -> Self {
        let ip = ip.to_canonical();
        Self {
            ip,
            trusted: trusted_proxies.iter().any(|net| net.contains(&ip)),
            tls,
            text: HeaderValue::from_static(""),
        }
    }
}

/// Tells the backend who asked: X-Forwarded-For/-Proto/-Host or Forwarded (RFC 7239).
/// After [`super::headers::receive`], once per request (not per try).
/// `host` is the host as the client wrote it.
pub fn announce(
    _headers: &mut HeaderMap,
    _how: config::Forwarded,
    _peer: &Peer,
    _client: IpAddr,
    _host: Option<&HeaderValue>,
) {
}
