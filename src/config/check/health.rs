//! `[service.NAME.health]`, with `auto` resolved.

use http::HeaderValue;

use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::types::{Check, Health, HealthKind};
use crate::config::values::{self, Wrong};

use super::fields;

pub fn read(r: &mut Reader<'_>) -> Health {
    let kind = r.one_of(
        "kind",
        &[
            ("auto", None),
            ("http", Some(Check::Http)),
            ("tcp", Some(Check::Tcp)),
            ("grpc", Some(Check::Grpc)),
            ("none", Some(Check::None)),
        ],
    );
    let kind = kind.or("auto");
    let path = r.string("path").and(move |text| match (text.is_empty(), kind) {
        (true, _) => Ok(text),
        (false, Some(Check::Grpc)) => grpc_service(text),
        (false, _) => request_target(text),
    });
    let path = path.or("");
    let both = |check| HealthKind { fixed: check, orchestrated: check };
    let health = Health {
        kind: match kind {
            Some(check) => both(check),
            None if !path.is_empty() => both(Check::Http),
            None => HealthKind { fixed: Check::None, orchestrated: Check::Tcp },
        },
        path,
        method: r.field("method", fields::method).or("GET"),
        port: r.int("port", 0..=65_535).or(0),
        host: r.field("host", host).or(""),
        expect_status: r.field("expect_status", fields::statuses).or("200-399"),
        expect_body: r.string("expect_body").or(""),
        interval: r.period("interval").or("5s"),
        timeout: r.period("timeout").or("2s"),
        healthy_after: r.int("healthy_after", 1..=1000).or(2),
        unhealthy_after: r.int("unhealthy_after", 1..=1000).or(3),
        start_period: r.duration("start_period").or("0s"),
        max_parallel: r.int("max_parallel", 1..=65_535).or(256),
    };
    if kind == Some(Check::Http) && !r.has("path") {
        r.problem("kind", "kind: an http check needs a path; add path = \"/health\"");
    }
    health
}

/// A path that may have a query.
fn request_target(text: String) -> Result<String, String> {
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    fields::request_path(path.to_owned())?;
    match query.bytes().all(|b| b > b' ' && b < 0x7f && b != b'#') {
        true => Ok(text),
        false => Err(format!("{text:?} is not a path; write one such as \"/health\"")),
    }
}

/// What a server may call one of its services.
fn grpc_service(text: String) -> Result<String, String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match text.len() <= 255 && text.bytes().all(fine) {
        true => Ok(text),
        false => Err(format!(
            "{text:?} is not the name of a gRPC service; write one such as \"shop.v1.Cart\", or \"\" for the server as a whole"
        )),
    }
}

fn host(value: &Value) -> Result<Option<HeaderValue>, Wrong> {
    match values::string(value)?.is_empty() {
        true => Ok(None),
        false => fields::header_value(value).map(Some),
    }
}
