//! `[service.NAME]`: backends, transport, retry, orchestrator.

use std::path::Path;

use http::HeaderValue;

use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::types::{
    Address, FixedBackend, Forwarded, Hedge, HostRule, OnExit, Orchestrator, Outlier, Retry,
    RetryOn, Service, UNIX,
};
use crate::config::values::{self, Wrong, wrong};
use crate::config::{Kinds, OwnKeys};
use crate::units::{format_duration, format_size};

use super::{
    Named, balance, discovery, fields, health, listener, overload, scaling, transport, unique,
};

/// Nobody starts and stops backends, or somebody else does.
const NONE: &str = "none";

/// Most bytes of a body that are kept for a resend.
const MAX_BODY_BUFFER: u64 = 64 * 1024;

/// What services need to know of the rest.
pub struct Context<'a> {
    pub kinds: &'a dyn Kinds,
    pub state_dir: &'a Path,
    /// Backends may be added over the admin API.
    pub added: bool,
    /// The names of `[metric.NAME]`.
    pub metrics: &'a scaling::MetricNames,
}

pub fn read(name: &str, r: &mut Reader<'_>, context: &Context<'_>) -> Service {
    if let Err(message) = listener::name(name.to_owned()) {
        let place = r.table().place.clone();
        r.push(place.problem(message));
    }
    let backends = r.sections("backend", backend);
    unique(r, "backend of this service", &backends);
    let mut service = Service {
        name: name.into(),
        balance: balance::algorithm(r),
        hash_on: r.field("hash_on", balance::hash_on).or("client_ip"),
        hash_balance: balance::hash_balance(r),
        sticky: r.section("sticky", balance::sticky),
        load_report: r.bool("load_report").or(false),
        max_in_flight: r.int("max_in_flight", 0..=1_000_000).or(0),
        slow_start: r.duration("slow_start").or("10s"),
        panic_threshold: r.ratio("panic_threshold").or(0),
        forwarded: r
            .one_of(
                "forwarded",
                &[
                    ("x-forwarded", Forwarded::XForwarded),
                    ("rfc7239", Forwarded::Rfc7239),
                    ("both", Forwarded::Both),
                    ("off", Forwarded::Off),
                ],
            )
            .or("x-forwarded"),
        host: r.field("host", host).or("preserve"),
        backends: backends.into_iter().map(|one| one.item).collect(),
        discovery: r.section("discovery", discovery::read),
        transport: r.section("transport", transport::read),
        health: r.section("health", health::read),
        outlier: r.section("outlier", outlier),
        retry: r.section("retry", retry),
        overload: r.section("overload", overload::read),
        orchestrator: r.section("orchestrator", |r| orchestrator(name, r, context)),
        scaling: r.section_if("scaling", |r| scaling::read(r, context.metrics)),
    };
    let kind_given =
        r.table().table("orchestrator").is_some_and(|table| table.get("kind").is_some());
    // With `kind = "none"` in so many words somebody else acts on what is decided here.
    if service.orchestrator.as_ref().is_some_and(|o| o.kind == NONE)
        && !(kind_given && service.scaling.is_some())
    {
        service.orchestrator = None;
    }
    if let Some(slo) = service.scaling.as_mut().and_then(|scaling| scaling.slo.as_mut())
        && slo.slots.is_none()
        && service.max_in_flight > 0
    {
        // No more is ever seen at once, so that nothing beyond could be learned.
        slo.slots = Some(f64::from(service.max_in_flight));
    }
    let unix =
        service.backends.iter().any(|fixed| matches!(fixed.address(), Some(Address::Unix(_))));
    if unix && service.health.port != 0 && !r.is_partial() {
        let message = "health: a unix socket has no port; leave port out".to_owned();
        r.problem("health", message);
    }
    let discovers = r.table().table("discovery").is_some_and(|table| table.get("kind").is_some());
    if service.max_in_flight > 0
        && let Some(hold) = service.scaling.as_mut().and_then(|scaling| scaling.hold.as_mut())
    {
        hold.slots = service.max_in_flight;
    }
    if service.orchestrator.is_none() && service.scaling.is_some() && !r.is_partial() && !kind_given
    {
        let message = format!(
            "scaling without an orchestrator; add [service.{name}.orchestrator], with kind = \"none\" if \
             another autoscaler acts on what is decided here"
        );
        r.problem("scaling", message);
    }
    if service.backends.is_empty()
        && !r.has("backend")
        && service.orchestrator.is_none()
        && !kind_given
        && !discovers
        && !context.added
    {
        r.missing(format!(
            "service {name:?} has no backends; add [[service.{name}.backend]], discovery or an orchestrator"
        ));
    }
    service
}

fn backend(r: &mut Reader<'_>) -> Named<FixedBackend> {
    let (host, port) = r.field("address", fields::host_and_port).required_or((String::new(), 1));
    let id = Some(r.string("id").or("")).filter(|id| !id.is_empty());
    let id = id.unwrap_or_else(|| match host.starts_with(UNIX) {
        true => host.replace([':', '/'], "-"),
        false => format!("{host}-{port}").replace([':', '/'], "-"),
    });
    let backend = FixedBackend {
        id: id.as_str().into(),
        port,
        weight: r.int("weight", 1..=65_535).or(1),
        backup: r.bool("backup").or(false),
        zone: fields::zone(r),
        host,
    };
    let place = r.place(if r.has("id") { "id" } else { "address" });
    // Without an address it has no id to be told apart by; that is told already.
    let name = if backend.host.is_empty() { String::new() } else { id };
    Named { name, place, item: backend }
}

fn host(value: &Value) -> Result<HostRule, Wrong> {
    match values::string(value)?.as_str() {
        "preserve" => Ok(HostRule::Preserve),
        "backend" => Ok(HostRule::Backend),
        "" => wrong(value, "an empty host; write \"preserve\", \"backend\" or a name"),
        text => match HeaderValue::from_str(text) {
            Ok(header) if !text.contains([' ', '/', '@']) => Ok(HostRule::Fixed(header)),
            _ => wrong(
                value,
                format!("{text:?} is not a host; write \"preserve\", \"backend\" or a name"),
            ),
        },
    }
}

fn outlier(r: &mut Reader<'_>) -> Outlier {
    let outlier = Outlier {
        consecutive_failures: r.int("consecutive_failures", 0..=1_000_000).or(5),
        success_rate_deviations: r.number("success_rate_deviations", 0.0..=10.0).or(1.9),
        failure_percent: r.int("failure_percent", 0..=100).or(85),
        ejection_time: r.period("ejection_time").or("10s"),
        max_ejection_time: r.period("max_ejection_time").or("5m"),
        max_ejected: r.ratio("max_ejected").or("50%"),
    };
    if outlier.max_ejection_time < outlier.ejection_time && !r.is_partial() {
        let most = format_duration(outlier.max_ejection_time);
        let first = format_duration(outlier.ejection_time);
        match r.has("max_ejection_time") {
            true => r.problem(
                "max_ejection_time",
                format!(
                    "max_ejection_time: {most} is below ejection_time; write at least \"{first}\""
                ),
            ),
            false => r.problem(
                "ejection_time",
                format!(
                    "ejection_time: {first} is above max_ejection_time; write at most \"{most}\""
                ),
            ),
        }
    }
    outlier
}

fn retry(r: &mut Reader<'_>) -> Retry {
    let small = |bytes: u64| match bytes {
        0..=MAX_BODY_BUFFER => Ok(bytes as usize),
        _ => Err(format!("{} is above the limit; write at most \"64KiB\"", format_size(bytes))),
    };
    Retry {
        attempts: r.int("attempts", 0..=10).or(2),
        on: r.field("on", retry_on).or(["connect", "reset", "refused", "502", "503"]),
        methods: r
            .list("methods", fields::method)
            .or(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]),
        budget: r.ratio("budget").or("20%"),
        budget_min: r.int("budget_min", 0..=1_000_000).or(3),
        body_buffer: r.size("body_buffer").and(small).or("64KiB"),
        backoff: r.duration("backoff").or("25ms"),
        hedge: r.one_of("hedge", &[("off", Hedge::Off), ("p95", Hedge::P95)]).or("off"),
    }
}

fn retry_on(value: &Value) -> Result<RetryOn, Wrong> {
    let mut on = RetryOn::default();
    let words = values::list(value, |value| {
        let word = values::string(value)?;
        if word == "429" {
            // It asks the client for less; elsewhere it would be as much (RFC 6585 §4).
            return wrong(value, "429 is never tried again; leave it out");
        }
        let status = word.parse::<u16>().is_ok_and(|status| (400..=599).contains(&status));
        if status || matches!(&*word, "connect" | "reset" | "refused" | "timeout") {
            return Ok(word);
        }
        let right = "write \"connect\", \"reset\", \"refused\", \"timeout\" or a status from \"400\" to \"599\"";
        wrong(value, format!("{word:?} is not known here; {right}"))
    })?;
    for word in words {
        match &*word {
            "connect" => on.connect = true,
            "reset" => on.reset = true,
            "refused" => on.refused = true,
            "timeout" => on.timeout = true,
            status => on.statuses.extend(status.parse::<u16>()),
        }
    }
    Ok(on)
}

fn orchestrator(service: &str, r: &mut Reader<'_>, context: &Context<'_>) -> Option<Orchestrator> {
    let kind = r.string("kind").or(NONE);
    let on_exit = if kind == "process" { "stop" } else { "keep" };
    let mut orchestrator = Orchestrator {
        start_timeout: r.period("start_timeout").or("60s"),
        drain_timeout: r.duration("drain_timeout").or("5m"),
        tunnel_drain_timeout: r.duration("tunnel_drain_timeout").or("30s"),
        stop_grace: r.duration("stop_grace").or("10s"),
        on_exit: r.one_of("on_exit", &[("keep", OnExit::Keep), ("stop", OnExit::Stop)]).or(on_exit),
        table: Default::default(),
        kind,
    };
    if orchestrator.kind == NONE {
        return Some(orchestrator);
    }
    let known = context.kinds.names();
    orchestrator.table = r.rest();
    if !known.contains(&orchestrator.kind) {
        let known = std::iter::once(NONE).chain(known.iter().map(String::as_str));
        let message = format!(
            "kind: {:?} is not known here; {}",
            orchestrator.kind,
            fields::there_are(known)
        );
        r.problem("kind", message);
    } else if !r.is_partial() {
        let own = OwnKeys {
            kind: &orchestrator.kind,
            service,
            table: &orchestrator.table,
            state_dir: context.state_dir,
            stop_grace: orchestrator.stop_grace,
        };
        context.kinds.check(&own).into_iter().for_each(|problem| r.push(problem));
    }
    Some(orchestrator)
}
