//! `[metric.NAME]`: where a number is asked for, and how often.

use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::types::{ExternalMetric, MetricSource, Url};
use crate::config::values::{self, Wrong, wrong};

use super::scaling;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    RedisList,
    Prometheus,
    HttpJson,
}

pub fn read(name: &str, r: &mut Reader<'_>) -> ExternalMetric {
    if scaling::is_own_metric(name) {
        let place = r.table().place.clone();
        r.push(place.problem(format!("{name} is a metric of ours; give this one another name")));
    }
    let kind = r
        .one_of(
            "kind",
            &[
                ("redis_list", Kind::RedisList),
                ("prometheus", Kind::Prometheus),
                ("http_json", Kind::HttpJson),
            ],
        )
        .required_or(Kind::HttpJson);
    let metric = ExternalMetric {
        name: name.into(),
        source: source(kind, r),
        interval: r.period("interval").or("15s"),
        timeout: r.period("timeout").or("5s"),
        stale_after: r.period("stale_after").or("45s"),
    };
    if metric.stale_after < metric.interval {
        let message = "stale_after is below interval: every value would be stale before the next; \
                       write three intervals or so";
        let key = if r.has("stale_after") { "stale_after" } else { "interval" };
        r.problem(key, message);
    }
    metric
}

fn source(kind: Kind, r: &mut Reader<'_>) -> MetricSource {
    let nobody = || Url {
        scheme: String::new(),
        host: String::new(),
        port: None,
        path: String::new(),
        user: None,
    };
    match kind {
        Kind::RedisList => {
            let url = r.field("url", |value| redis(value, &["redis", "rediss"]));
            let (at, database) = url.required_or((nobody(), 0));
            MetricSource::RedisList { at, database, key: r.string("key").required() }
        }
        Kind::Prometheus => MetricSource::Prometheus {
            at: r.field("url", http_endpoint).required_or(nobody()),
            query: r.string("query").required(),
        },
        Kind::HttpJson => MetricSource::HttpJson {
            at: r.field("url", http_endpoint).required_or(nobody()),
            pointer: r.string("pointer").and(pointer).required(),
            age_pointer: r.string("age_pointer").and(pointer).optional(),
        },
    }
}

/// `redis://HOST:PORT/DATABASE`
pub fn redis(value: &Value, schemes: &[&str]) -> Result<(Url, u32), Wrong> {
    let at = endpoint(value, schemes)?;
    let database = at.path.trim_matches('/');
    let number = if database.is_empty() { Ok(0) } else { database.parse() };
    match number {
        Ok(number) => Ok((at, number)),
        Err(_) => wrong(value, format!("{database:?} is not the number of a database")),
    }
}

/// RFC 6901; empty = the whole document.
fn pointer(text: String) -> Result<String, String> {
    match text.is_empty() || text.starts_with('/') {
        true => Ok(text),
        false => Err(format!("{text:?} is not a JSON pointer; write one as \"/messages\"")),
    }
}

fn http_endpoint(value: &Value) -> Result<Url, Wrong> {
    endpoint(value, &["http", "https"])
}

/// A URL of one of these schemes.
fn endpoint(value: &Value, schemes: &[&str]) -> Result<Url, Wrong> {
    match values::string(value)?.parse::<Url>() {
        Ok(url) if schemes.contains(&url.scheme.as_str()) => Ok(url),
        Ok(url) => {
            let (given, right) = (url.scheme, schemes[0]);
            wrong(value, format!("{given}:// is not spoken here; write {right}://host:port/…"))
        }
        Err(error) => wrong(value, error),
    }
}
