//! `[[route]]`: what matches, and what is done with it.

use std::sync::Arc;

use http::StatusCode;

use crate::config::reader::Reader;
use crate::config::tree::{Node, Place, Value};
use crate::config::types::{
    HeaderRules, HostPattern, PathPattern, Priority, Rewrite, Route, RouteAction, Share,
};
use crate::config::values::{self, Wrong, wrong};

use super::{Named, fields, limits, listener};

const ACTIONS: [&str; 4] = ["service", "split", "redirect", "respond"];

const PRIORITIES: [(&str, Priority); 3] = [
    ("critical", Priority::Critical),
    ("normal", Priority::Normal),
    ("sheddable", Priority::Sheddable),
];

/// One route, with the places of the names in it that are still to be found.
pub struct Read {
    pub route: Route,
    pub listeners: Vec<(String, Place)>,
    /// Where a limit says that it is shared.
    pub shared: Option<Place>,
    /// The key that names it, its name, its place.
    pub services: Vec<(&'static str, String, Place)>,
}

pub fn read(r: &mut Reader<'_>) -> Named<Read> {
    let named = |value: &Value| Ok((values::string(value)?, value.place.clone()));
    let listeners = r.list("listeners", named).or([]);
    let host = r.list("host", host).or([]);
    let path = r.field("path", path).or("/");
    let name = r.string("name").and(listener::name).optional();
    // Two unnamed routes on one host and path differ in methods or headers; only names that
    // people give must differ.
    let (own_name, name) = match name {
        Some(name) => (name.clone(), name),
        None => (String::new(), default_name(&host, &path)),
    };
    let (action, mut services) = action(r);
    let mirror = mirror(r, &action);
    services.extend(mirror.iter().map(|name| ("mirror", name.clone(), r.place("mirror"))));
    let (rate_limits, shared) = limits::rate_limits(r);
    let route = Route {
        name: name.into(),
        listeners: listeners.iter().map(|(name, _)| Arc::from(name.as_str())).collect(),
        host,
        path,
        methods: r.list("methods", fields::method).or([]),
        headers: r.field("headers", fields::headers).optional().unwrap_or_default(),
        action,
        mirror: mirror.map(Arc::from),
        timeout: Some(r.duration("timeout").or("0s")).filter(|timeout| !timeout.is_zero()),
        max_body: Some(r.size("max_body").or("10MiB")).filter(|bytes| *bytes > 0),
        rate_bytes: limits::rate_bytes(r),
        priority: r.one_of("priority", &PRIORITIES).or("normal"),
        rewrite: r.section_if("rewrite", rewrite),
        headers_in: r.section("headers_in", header_rules),
        headers_out: r.section("headers_out", header_rules),
        access: r.section("access", limits::access),
        rate_limits,
        concurrency_limit: r.section("concurrency_limit", limits::concurrency),
    };
    Named {
        place: r.place("name"),
        name: own_name,
        item: Read { route, listeners, shared, services },
    }
}

/// What it does, and the services that it names.
fn action(r: &mut Reader<'_>) -> (RouteAction, Vec<(&'static str, String, Place)>) {
    let service = r.string("service").optional();
    let shares = r.sections("split", share);
    let redirect = r.section_if("redirect", redirect);
    let respond = r.section_if("respond", respond);
    let mut given = ACTIONS.iter().filter(|action| r.has(action));
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        let message = format!("a route with {first} and {second}; keep one of them");
        r.problem(second, message);
    }
    if !ACTIONS.iter().any(|action| r.has(action)) {
        r.missing("this route does nothing; add service, split, redirect or respond");
    }
    check_split(r, &shares);
    let mut named: Vec<_> =
        service.iter().map(|s| ("service", s.clone(), r.place("service"))).collect();
    named.extend(shares.iter().map(|share| ("service", share.name.clone(), share.place.clone())));
    let action = match (service, redirect, respond) {
        (Some(service), _, _) => RouteAction::Service(service.into()),
        _ if !shares.is_empty() => {
            RouteAction::Split(shares.into_iter().map(|share| share.item).collect())
        }
        (_, Some(redirect), _) => redirect,
        (_, _, Some(respond)) => respond,
        // Told above, or where the service was read.
        _ => RouteAction::Service("".into()),
    };
    (action, named)
}

fn mirror(r: &mut Reader<'_>, action: &RouteAction) -> Option<String> {
    let mirror = Some(r.string("mirror").or("")).filter(|name| !name.is_empty())?;
    // The defaults speak for routes to a service only.
    let is_own = r.table().get("mirror").is_some_and(|value| !value.is_from_defaults());
    if is_own && action.services().next().is_none() {
        r.problem("mirror", "mirror: this route answers itself; there is nothing to copy");
    }
    if action.services().any(|(service, _)| **service == *mirror) {
        let message = format!("mirror: requests go to {mirror:?} already; name another service");
        r.problem("mirror", message);
    }
    Some(mirror)
}

fn share(r: &mut Reader<'_>) -> Named<Share> {
    let name = r.string("service").required();
    let weight = r.int("weight", 0..=65_535).required();
    Named { place: r.place("service"), item: Share { service: name.as_str().into(), weight }, name }
}

fn check_split(r: &mut Reader<'_>, shares: &[Named<Share>]) {
    if let Some(Node::Array(values)) = r.table().get("split").map(|value| &value.node)
        && values.is_empty()
    {
        r.problem("split", "split: an empty list; write [{ service = \"app\", weight = 1 }]");
    }
    if !shares.is_empty() && shares.iter().all(|share| share.item.weight == 0) {
        r.problem("split", "split: no service has a weight above 0; write one that has");
    }
    for (index, share) in shares.iter().enumerate() {
        if !share.name.is_empty() && shares[..index].iter().any(|other| other.name == share.name) {
            let message =
                format!("service: {:?} is in this split already; add the weights up", share.name);
            r.push(share.place.problem(message));
        }
    }
}

fn redirect(r: &mut Reader<'_>) -> RouteAction {
    let allowed = |code: u16| match StatusCode::from_u16(code) {
        Ok(status) if [301, 302, 303, 307, 308].contains(&code) => Ok(status),
        _ => Err(format!("{code} is not a redirect; write 301, 302, 303, 307 or 308")),
    };
    RouteAction::Redirect {
        to: r.string("to").and(redirect_target).required(),
        status: r.int("status", 0..=999).and(allowed).or(308),
    }
}

fn redirect_target(text: String) -> Result<String, String> {
    let plain = text.replace("{host}", "").replace("{path}", "").replace("{query}", "");
    if text.is_empty() || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(format!("{text:?} is not a target; write one as \"https://{{host}}{{path}}\""));
    }
    if plain.contains(['{', '}']) {
        return Err(format!(
            "{text:?} has an unknown {{…}}; write {{host}}, {{path}} or {{query}}"
        ));
    }
    Ok(text)
}

fn respond(r: &mut Reader<'_>) -> RouteAction {
    let status = |code: u16| StatusCode::from_u16(code).map_err(|error| error.to_string());
    RouteAction::Respond {
        status: r.int("status", 200..=599).and(status).or(200),
        body: r.string("body").or("").into(),
        headers: r.field("headers", fields::headers).optional().unwrap_or_default(),
    }
}

fn rewrite(r: &mut Reader<'_>) -> Rewrite {
    let prefix = |text: String| match text.is_empty() {
        true => Ok(text),
        false => fields::request_path(text),
    };
    let strip_prefix = r.string("strip_prefix").and(prefix).or("");
    let add_prefix = r.string("add_prefix").and(prefix).or("");
    let regex = r.string("regex").and(|text| match text.is_empty() {
        true => Ok(None),
        false => fields::regex(&text).map(Some),
    });
    let regex = regex.or("");
    let to = r.string("to").or("");
    match (regex.is_some(), r.has("regex"), to.is_empty()) {
        (true, _, true) => {
            r.problem("regex", "regex: nothing to put in its place; add to = \"…\"");
        }
        (false, false, false) => r.problem("to", "to: there is no regex it could follow; add one"),
        _ => {}
    }
    Rewrite { strip_prefix, add_prefix, regex: regex.map(|regex| (regex, to)) }
}

fn header_rules(r: &mut Reader<'_>) -> HeaderRules {
    let remove = |value: &Value| fields::header_name(&values::string(value)?, value);
    HeaderRules {
        set: r.field("set", fields::headers).optional().unwrap_or_default(),
        remove: r.list("remove", remove).or([]),
    }
}

fn host(value: &Value) -> Result<HostPattern, Wrong> {
    let text = values::string(value)?.to_ascii_lowercase();
    if let Some(rest) = text.strip_prefix("*.") {
        if fields::is_host_name(rest) {
            return Ok(HostPattern::Wildcard(format!(".{rest}")));
        }
    } else {
        let ip = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if fields::is_host_name(&text)
            || ip.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
        {
            return Ok(HostPattern::Exact(text));
        }
    }
    wrong(
        value,
        format!("{text:?} is not a host; write \"example.com\" or \"*.example.com\", without port"),
    )
}

fn path(value: &Value) -> Result<PathPattern, Wrong> {
    let text = values::string(value)?;
    let pattern = if let Some(regex) = text.strip_prefix('~') {
        fields::regex(regex).map(PathPattern::Regex)
    } else if let Some(exact) = text.strip_prefix('=') {
        fields::request_path(exact.to_owned()).map(PathPattern::Exact)
    } else {
        fields::request_path(text).map(PathPattern::Prefix)
    };
    pattern.or_else(|message| wrong(value, message))
}

fn default_name(host: &[HostPattern], path: &PathPattern) -> String {
    let host = match host.first() {
        None => "*".to_owned(),
        Some(HostPattern::Exact(host)) => host.clone(),
        Some(HostPattern::Wildcard(host)) => format!("*{host}"),
    };
    match path {
        PathPattern::Exact(path) => format!("{host}={path}"),
        PathPattern::Prefix(path) => format!("{host}{path}"),
        PathPattern::Regex(regex) => format!("{host}~{regex}"),
    }
}
