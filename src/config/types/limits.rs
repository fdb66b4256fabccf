//! What a route holds its requests to: `[[route.rate_limit]]`, `[route.access]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::Url;

/// `[[route.rate_limit]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Letters, digits, `-`, `_` and dots; it stands in headers and labels.
    pub name: Arc<str>,
    pub key: LimitKey,
    pub rate: Rate,
    /// Most requests at once, 1 or more.
    pub burst: u32,
    /// 0..=32
    pub ipv4_prefix: u8,
    /// 0..=128
    pub ipv6_prefix: u8,
    /// Keys that are counted apart, 1 or more.
    pub max_keys: usize,
    /// Refusals within a minute after which an address is banned; `None` = never.
    pub ban_after: Option<u32>,
    pub ban_for: Duration,
    /// Counted together with other tidegates, where Redis answers.
    pub shared: bool,
    /// It only counts.
    pub dry_run: bool,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    ClientIp,
    Header(http::HeaderName),
    Cookie(Box<str>),
    /// `X-API-Key`, else the whole of `Authorization`.
    ApiKey,
    /// All of the route's.
    Route,
}

/// `100/s`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// 1..=1,000,000
    pub count: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

impl Rate {
    /// Between two requests of an even flow; at least 1 µs.
    pub fn interval(self) -> Duration {
        // Rounded up: never more than was asked for.
        let nanos = self.per.as_nanos().div_ceil(u128::from(self.count.max(1)));
        Duration::from_nanos(nanos as u64)
    }
}

/// `[shared]`: what several tidegates have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    pub at: Url,
    pub database: u32,
}

/// `[route.access]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// `None` = everybody.
    pub allow: Option<Vec<IpNet>>,
    pub deny: Vec<IpNet>,
    /// Where some of them were read from.
    pub files: Vec<PathBuf>,
}
