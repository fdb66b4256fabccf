//! Headers that belong to one connection only, and headers that strangers may not set.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, StatusCode, Uri, Version};
use ipnet::IpNet;

use crate::config::types as config;

use super::forwarded::Peer;
use super::request_id::RequestId;

/// What [`receive`] learnt on its way through the headers.
#[derive(Debug, Clone)]
pub struct Received {
    /// The first untrusted address from the right.
    pub client: IpAddr,
    pub id: RequestId,
    /// The client asks to upgrade (never to h2c); `Upgrade` and `Connection: upgrade` are still there.
    pub upgrade: bool,
}

/// First thing done with a request, before routing looks at its headers: removes hop-by-hop
/// headers and whatever an untrusted peer may not say, finds the client, sets X-Request-Id.
pub fn receive(
    _headers: &mut HeaderMap,
    _version: Version,
    peer: &Peer,
    _trusted_proxies: &[IpNet],
    rng: &mut fastrand::Rng,
) -> Received {
    Received { client: peer.ip, id: RequestId::generate(rng), upgrade: false }
}

/// The Host that the client sent, as one value, whether it came as Host or as an authority:
/// what X-Forwarded-Host says and `host = "preserve"` sends. `None` for HTTP/1.0 without one.
pub fn host_value(_uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(http::header::HOST).cloned()
}

/// Sets Host for one try. `preserved` comes from [`host_value`]; `backend` is the backend's authority.
pub fn set_host(
    _headers: &mut HeaderMap,
    _rule: &config::HostRule,
    _preserved: Option<&HeaderValue>,
    _backend: &HeaderValue,
) {
}

/// Removes from a backend's answer what belongs to its connection. With status 101 Upgrade stays.
pub fn receive_response(_headers: &mut HeaderMap, _status: StatusCode) {}

/// `headers_in` and `headers_out`: removes, then sets.
pub fn apply(_headers: &mut HeaderMap, _rules: &config::HeaderRules) {}
