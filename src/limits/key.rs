//! Whose request it is: what of a request a limit counts by.

use std::net::IpAddr;

use aws_lc_rs::digest;
use http::{HeaderMap, header};
use ipnet::IpNet;

use crate::config::types::{LimitKey, RateLimit};
use crate::http::cookies;

/// A client address cut to its prefix as it is; anything else as the first half of its SHA-256, so that neither a
/// long header nor a secret is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub [u64; 2]);

const API_KEY: &str = "x-api-key";

impl Key {
    /// Of a request. One without the header, cookie or API key counts by its client's address: whoever leaves
    /// it out gains nothing by it.
    pub fn of(limit: &RateLimit, headers: &HeaderMap, client: IpAddr) -> Self {
        let mut hash = Hash::default();
        match &limit.key {
            LimitKey::Route => return Self([0, 0]),
            LimitKey::ClientIp => {}
            LimitKey::Header(name) => {
                headers.get_all(name).iter().for_each(|v| hash.add(v.as_bytes()))
            }
            LimitKey::Cookie(name) => cookies::values(headers, name).for_each(|v| hash.add(v)),
            LimitKey::ApiKey => {
                let key = headers.get(API_KEY).or_else(|| headers.get(header::AUTHORIZATION));
                key.iter().for_each(|value| hash.add(value.as_bytes()));
            }
        }
        hash.finish().unwrap_or_else(|| Self::address(network(limit, client).network()))
    }

    fn address(address: IpAddr) -> Self {
        let bits = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Self([(bits >> 64) as u64, bits as u64])
    }
}

/// The network that counts as one client.
pub fn network(limit: &RateLimit, client: IpAddr) -> IpNet {
    let client = client.to_canonical();
    let prefix = match client {
        IpAddr::V4(_) => limit.ipv4_prefix,
        IpAddr::V6(_) => limit.ipv6_prefix,
    };
    IpNet::new(client, prefix).unwrap_or_else(|_| client.into()).trunc()
}

/// Over values that are told from one another.
#[derive(Default)]
struct Hash(Option<digest::Context>);

impl Hash {
    fn add(&mut self, value: &[u8]) {
        let context = self.0.get_or_insert_with(|| digest::Context::new(&digest::SHA256));
        context.update(&(value.len() as u64).to_le_bytes());
        context.update(value);
    }

    /// `None`: there was no value.
    fn finish(self) -> Option<Key> {
        let digest = self.0?.finish();
        let half = |at: usize| {
            let bytes = digest.as_ref().get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        Some(Key([half(0)?, half(8)?]))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;
    use crate::config::types::Rate;

    fn limit(key: LimitKey) -> RateLimit {
        RateLimit {
            name: "test".into(),
            key,
            rate: Rate { count: 1, per: Duration::from_secs(1) },
            burst: 1,
            ipv4_prefix: 24,
            ipv6_prefix: 64,
            max_keys: 1,
            ban_after: None,
            ban_for: Duration::from_secs(1),
            shared: false,
            dry_run: false,
        }
    }

    fn of(key: LimitKey, fields: &[(&'static str, &'static str)], client: &str) -> Key {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Key::of(&limit(key), &headers, client.parse().expect("an address"))
    }

    #[test]
    fn addresses_count_by_prefix_and_a_mapped_one_is_an_ipv4_one() {
        let ip = |client| of(LimitKey::ClientIp, &[], client);
        assert_eq!(ip("10.0.0.1"), ip("10.0.0.200"));
        assert_eq!(ip("10.0.0.1"), ip("::ffff:10.0.0.7"));
        assert_ne!(ip("10.0.0.1"), ip("10.0.1.1"));
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
    }

    #[test]
    fn who_leaves_the_key_out_counts_by_address() {
        let header = || LimitKey::Header("x-user".parse().expect("a name"));
        let by_address = of(LimitKey::ClientIp, &[], "10.0.0.1");
        for key in [header(), LimitKey::Cookie("id".into()), LimitKey::ApiKey] {
            assert_eq!(of(key.clone(), &[("x-other", "a")], "10.0.0.1"), by_address);
            let named = [("x-user", "a"), ("cookie", "b=1; id=a"), ("x-api-key", "a")];
            let known = of(key.clone(), &named, "10.0.0.1");
            assert_ne!(known, by_address);
            assert_eq!(of(key, &named, "192.0.2.1"), known, "wherever it comes from");
        }
        let user = |fields| of(header(), fields, "10.0.0.1");
        assert_ne!(user(&[("x-user", "ab")]), user(&[("x-user", "a"), ("x-user", "b")]));
    }

    #[test]
    fn an_api_key_is_its_own_header_or_else_the_authorization() {
        let of = |fields| of(LimitKey::ApiKey, fields, "10.0.0.1");
        let both = of(&[("authorization", "Bearer b"), ("x-api-key", "a")]);
        assert_eq!(both, of(&[("x-api-key", "a")]));
        assert_ne!(both, of(&[("authorization", "Bearer b")]));
    }

    #[test]
    fn a_route_is_one_key() {
        assert_eq!(of(LimitKey::Route, &[], "10.0.0.1"), of(LimitKey::Route, &[], "192.0.2.1"));
    }
}
