//! What a route holds its requests to: `[[route.rate_limit]]`, `[route.concurrency_limit]`,
//! `[route.access]`. The lists of networks that it names are read here, so that a mistake in one is told
//! like any other.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use crate::config::field::Field;
use crate::config::reader::Reader;
use crate::config::tree::{Node, Place, Value};
use crate::config::types::{Access, LimitKey, Rate, RateLimit, Redis};
use crate::config::values::{self, Wrong, wrong};

use super::route::Read;
use super::{Named, fields, metric};

/// Requests a unit of time, at most: no two closer than a microsecond.
const MAX_RATE: u32 = 1_000_000;
const MAX_BURST: i64 = 1_000_000;
const MAX_KEYS: i64 = 10_000_000;
/// Mistakes of one file that are told.
const TOLD: usize = 5;

/// The limits, and where the first says that it is shared.
pub fn rate_limits(r: &mut Reader<'_>) -> (Vec<RateLimit>, Option<Place>) {
    let mut shared = None;
    let all = r.sections("rate_limit", |r| {
        let limit = rate_limit(r);
        if limit.shared {
            shared.get_or_insert(r.place("shared"));
        }
        (limit, r.place("name"))
    });
    for (index, (limit, place)) in all.iter().enumerate() {
        let name = &limit.name;
        if !name.is_empty() && all[..index].iter().any(|(other, _)| other.name == *name) {
            let message =
                format!("name: another limit of this route is called {name:?}; take another name");
            r.push(place.problem(message));
        }
    }
    (all.into_iter().map(|(limit, _)| limit).collect(), shared)
}

fn rate_limit(r: &mut Reader<'_>) -> RateLimit {
    let name = r.string("name").and(name).required();
    let key = r.field("key", key).required_or(LimitKey::Route);
    let rate = r.field("rate", rate).required_or(Rate { count: 1, per: Duration::from_secs(1) });
    // As much as comes in a second.
    let usual = (f64::from(rate.count) / rate.per.as_secs_f64()).ceil().max(1.0) as u32;
    RateLimit {
        name,
        key,
        rate,
        burst: r.int("burst", 1..=MAX_BURST).optional().unwrap_or(usual),
        ipv4_prefix: r.int("ipv4_prefix", 0..=32).or(32),
        ipv6_prefix: r.int("ipv6_prefix", 0..=128).or(64),
        max_keys: r.int("max_keys", 1..=MAX_KEYS).or(200_000),
        ban_after: Some(r.int("ban_after", 0..=MAX_BURST).or(0)).filter(|after| *after > 0),
        ban_for: r.period("ban_for").or("10m"),
        shared: r.bool("shared").or(false),
        dry_run: r.bool("dry_run").or(false),
    }
}

/// `[shared]`
pub fn shared(r: &mut Reader<'_>) -> Option<Arc<Redis>> {
    r.section("shared", |r| {
        let redis = r.field("redis", |value| match values::string(value)?.as_str() {
            "" => Ok(None),
            _ => {
                let found = metric::redis(value, &["redis", "rediss"]);
                found.map(|(at, database)| Some(Redis { at, database }))
            }
        });
        redis.or("").map(Arc::new)
    })
}

/// A limit that is shared needs somewhere to be counted.
pub fn has_redis(r: &mut Reader<'_>, route: &Named<Read>, redis: Option<&Arc<Redis>>) {
    let place = route.item.shared.as_ref().filter(|_| redis.is_none());
    if let Some(place) = place {
        let message = "shared: there is nothing to count in together; add [shared] with redis = \"redis://HOST:6379\"";
        r.push(place.problem(message));
    }
}

/// It stands in quotes in headers.
fn name(text: String) -> Result<Arc<str>, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        true => Ok(text.into()),
        false => Err(format!(
            "{text:?} is not a name; write up to 64 letters, digits, \"-\", \"_\" and dots"
        )),
    }
}

fn key(value: &Value) -> Result<LimitKey, Wrong> {
    let text = values::string(value)?;
    match text.split_once(':') {
        None if text == "client_ip" => Ok(LimitKey::ClientIp),
        None if text == "api_key" => Ok(LimitKey::ApiKey),
        None if text == "route" => Ok(LimitKey::Route),
        Some(("header", name)) => {
            fields::header_name(name, value).map(|name: HeaderName| LimitKey::Header(name))
        }
        Some(("cookie", name)) => fields::cookie_name(name, value).map(LimitKey::Cookie),
        _ => wrong(
            value,
            format!(
                "{text:?} is not known here; write \"client_ip\", \"header:NAME\", \"cookie:NAME\", \
                 \"api_key\" or \"route\""
            ),
        ),
    }
}

fn rate(value: &Value) -> Result<Rate, Wrong> {
    let text = values::string(value)?;
    let parsed = text.split_once('/').and_then(|(count, unit)| {
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let count = count.trim().parse().ok()?;
        Some(Rate { count, per: Duration::from_secs(seconds) })
    });
    match parsed {
        Some(rate) if (1..=MAX_RATE).contains(&rate.count) => Ok(rate),
        _ => wrong(
            value,
            format!(
                "{text:?} is not a rate; write one from \"1/h\" to \"{MAX_RATE}/s\", as \"100/s\", \"30/m\" or \"5/h\""
            ),
        ),
    }
}

/// Bytes a second, if they are limited. Fewer than this would be longer between two pieces than peers wait.
pub fn rate_bytes(r: &mut Reader<'_>) -> Option<u64> {
    const LEAST: u64 = 1024;
    let enough = |bytes: u64| match bytes {
        0 => Ok(None),
        LEAST.. => Ok(Some(bytes)),
        _ => Err("too slow; write \"1KiB\" a second or more, or \"0\" for no limit".to_owned()),
    };
    r.size("rate_bytes").and(enough).or("0")
}

/// `max`, if there is one.
pub fn concurrency(r: &mut Reader<'_>) -> Option<u32> {
    Some(r.int("max", 0..=MAX_BURST).or(0)).filter(|max| *max > 0)
}

pub fn access(r: &mut Reader<'_>) -> Access {
    let mut access = Access::default();
    let mut lists = |key: &'static str| {
        let lists = Field { shown: absolute, ..r.list(key, networks) }.or([]);
        let given = !lists.is_empty();
        let mut all = Vec::new();
        for (networks, file) in lists {
            all.extend(networks);
            access.files.extend(file);
        }
        given.then_some(all)
    };
    let (allow, deny) = (lists("allow"), lists("deny"));
    (access.allow, access.deny) = (allow, deny.unwrap_or_default());
    access
}

/// The networks of one element, and the file that they are from.
type Networks = (Vec<IpNet>, Option<std::path::PathBuf>);

/// A network, or `file:PATH`: one network a line; what follows `#` is a comment.
fn networks(value: &Value) -> Result<Networks, Wrong> {
    let text = values::string(value)?;
    let Some(path) = text.strip_prefix("file:") else {
        return fields::network(value).map(|network| (vec![network], None));
    };
    let path = value.place.resolve(path);
    let read = std::fs::read_to_string(&path).or_else(|error| {
        let message = format!("{} cannot be read ({error}); name a file that can", path.display());
        wrong(value, message)
    })?;
    let (mut networks, mut bad) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(read.lines()) {
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() || bad.len() == TOLD {
            continue;
        }
        let place = Place { file: path.as_path().into(), line: number, column: 1 };
        let line = Value { node: Node::from(text), place, ..value.clone() };
        match fields::network(&line) {
            Ok(network) => networks.push(network),
            Err(mut some) => bad.append(&mut some),
        }
    }
    if bad.is_empty() { Ok((networks, Some(path))) } else { Err(bad) }
}

/// Files as they are from anywhere.
fn absolute(value: &Value) -> Value {
    let node = match &value.node {
        Node::Array(values) => Node::Array(values.iter().map(fields::absolute_secret).collect()),
        other => other.clone(),
    };
    Value { node, ..value.clone() }
}
