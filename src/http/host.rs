//! Which host a request is for.

use std::borrow::Cow;

use http::{HeaderMap, Uri, Version};

/// The host of a request, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a> {
    /// Lower case, without port, without a final dot; an IPv6 address stands in brackets.
    pub name: Cow<'a, str>,
    pub port: Option<u16>,
    /// As the client wrote it: `host[:port]`.
    pub written: &'a str,
}

/// Why a request is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("the request has no Host")]
    Missing,
    #[error("the request has more than one Host")]
    Duplicate,
    #[error("the Host is not valid")]
    Invalid,
    /// HTTP/2: `:authority` and Host name different hosts.
    #[error("the Host differs from the authority")]
    Mismatch,
}

/// The host of a request: its target's authority if it has one (RFC 9112 §3.2.2), else Host.
/// `None` only for HTTP/1.0 without one.
pub fn of_request<'a>(
    _version: Version,
    _uri: &'a Uri,
    _headers: &'a HeaderMap,
) -> Result<Option<Host<'a>>, HostError> {
    Ok(None)
}

/// Takes `host[:port]` apart; no user-info.
pub fn parse(written: &str) -> Result<Host<'_>, HostError> {
    Ok(Host { name: Cow::Borrowed(written), port: None, written })
}
