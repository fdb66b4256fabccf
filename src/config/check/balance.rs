//! Of `[service.NAME]` the keys that say which backend gets a request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Problem;
use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::types::{Balance, HashOn, Route, Service, Sticky};
use crate::config::values::{self, Wrong, wrong};

use super::{Named, fields, route};

/// `balance`, and `hash_compat`, which makes another algorithm of one.
pub fn algorithm(r: &mut Reader<'_>) -> Balance {
    let balance = r
        .one_of(
            "balance",
            &[
                ("adaptive", Balance::Adaptive),
                ("least_connections", Balance::LeastConnections),
                ("round_robin", Balance::RoundRobin),
                ("random", Balance::Random),
                ("p2c_ewma", Balance::P2cEwma),
                ("ip_hash", Balance::IpHash),
                ("hash", Balance::Hash),
            ],
        )
        .or("adaptive");
    let nginx = r.one_of("hash_compat", &[("", false), ("nginx", true)]).or("");
    let is_own = r.table().get("hash_compat").is_some_and(|value| !value.is_from_defaults());
    match (nginx, balance) {
        (true, Balance::IpHash) => Balance::NginxIpHash,
        (true, _) if is_own && !r.is_partial() => {
            let message =
                "hash_compat: only ip_hash has it; write balance = \"ip_hash\" or leave it out";
            r.problem("hash_compat", message);
            balance
        }
        _ => balance,
    }
}

pub fn hash_on(value: &Value) -> Result<HashOn, Wrong> {
    let text = values::string(value)?;
    match text.split_once(':') {
        None if text == "client_ip" => Ok(HashOn::ClientIp),
        None if text == "uri" => Ok(HashOn::Uri),
        Some(("header", name)) => fields::header_name(name, value).map(HashOn::Header),
        Some(("cookie", name)) => fields::cookie_name(name, value).map(HashOn::Cookie),
        _ => wrong(
            value,
            format!(
                "{text:?} is not known here; write \"client_ip\", \"uri\", \"header:NAME\" or \"cookie:NAME\""
            ),
        ),
    }
}

pub fn hash_balance(r: &mut Reader<'_>) -> f64 {
    let bound = |factor: f64| match factor {
        0.0 | 1.0.. => Ok(factor),
        _ => Err(format!("{factor} is under the mean itself; write 1 or more, or 0 for no bound")),
    };
    r.number("hash_balance", 0.0..=1000.0).and(bound).or(1.25)
}

/// Off without the name of a cookie.
pub fn sticky(r: &mut Reader<'_>) -> Option<Sticky> {
    let cookie = r.field("cookie", |value| match values::string(value)?.as_str() {
        "" => Ok(None),
        name => fields::cookie_name(name, value).map(Some),
    });
    let cookie = cookie.or("");
    let whole = |ttl: Duration| match ttl.as_secs() {
        1..=31_536_000 => Ok(ttl),
        _ => Err("out of range; write one from \"1s\" to \"8760h\"".to_owned()),
    };
    let ttl = r.duration("ttl").and(whole).or("1h");
    let secret = fields::secret(r, "secret");
    if cookie.is_none() && !r.table().entries.is_empty() && !r.has("cookie") {
        r.missing("sticky has no \"cookie\"; add its name");
    }
    Some(Sticky { cookie: cookie?, ttl, secret })
}

/// A client keeps one cookie of a name for a host: services that share both end each other's sessions.
pub fn shared_cookies(
    r: &Reader<'_>,
    routes: &[Named<route::Read>],
    services: &BTreeMap<Arc<str>, Arc<Service>>,
) -> Vec<Problem> {
    let cookie = |name: &Arc<str>| Some(&services.get(name)?.sticky.as_ref()?.cookie);
    let sticky: Vec<_> = routes
        .iter()
        .flat_map(|route| {
            let Route { action, host, .. } = &route.item.route;
            action.services().filter_map(move |(name, _)| Some((cookie(name)?, name.clone(), host)))
        })
        .collect();
    let mut pairs = BTreeSet::new();
    for (i, (cookie, name, hosts)) in sticky.iter().enumerate() {
        for (_, other, _) in sticky[..i].iter().filter(|(other_cookie, other, other_hosts)| {
            let anywhere = hosts.is_empty() || other_hosts.is_empty();
            let meet = anywhere || hosts.iter().any(|host| other_hosts.contains(host));
            other_cookie == cookie && other != name && meet
        }) {
            pairs.insert((name.max(other).clone(), name.min(other).clone(), (*cookie).clone()));
        }
    }
    let table = r.table().table("service");
    let place = |name: &str| Some(table?.table(name)?.get("sticky")?.place.clone());
    let tell = |(name, other, cookie): (Arc<str>, Arc<str>, Box<str>)| {
        let message = format!(
            "sticky: services {name:?} and {other:?} share a host and the cookie {cookie:?}, of which a client keeps one; give each its own"
        );
        Some(place(&name)?.problem(message))
    };
    pairs.into_iter().filter_map(tell).collect()
}
