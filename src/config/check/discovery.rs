//! `[dns]` and `[service.NAME.discovery]`.

use std::net::{IpAddr, SocketAddr};

use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::types::{Discovery, DiscoveryKind, Dns};
use crate::config::values::{self, Wrong, wrong};

use super::fields;

/// Where a nameserver listens unless it is said.
const DNS_PORT: u16 = 53;

pub fn dns(r: &mut Reader<'_>) -> Dns {
    r.section("dns", |r| {
        let dns = Dns {
            servers: r.list("servers", server).or([]),
            min_ttl: r.period("min_ttl").or("1s"),
            max_ttl: r.period("max_ttl").or("30s"),
        };
        if dns.max_ttl < dns.min_ttl {
            r.problem("max_ttl", "max_ttl: it is below min_ttl; write one that is not");
        }
        dns
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Word {
    None,
    Dns,
    Srv,
    File,
}

pub fn read(r: &mut Reader<'_>) -> Option<Discovery> {
    let kinds =
        &[("none", Word::None), ("dns", Word::Dns), ("srv", Word::Srv), ("file", Word::File)];
    let kind = r.one_of("kind", kinds).or("none");
    let name = r.string("name").or("");
    let path = r.field("path", path).or("");
    let allow = r.list("allow", fields::network).or([]);
    let kind = match kind {
        Word::None => return None,
        Word::Dns => {
            let (host, port) = host_and_port(r, &name);
            DiscoveryKind::Dns { host, port }
        }
        Word::Srv => {
            let plain = name.trim_end_matches('.');
            if name.is_empty() {
                r.missing(
                    "discovery of kind \"srv\" has no name; add one as \"_http._tcp.app.internal\"",
                );
            } else if !fields::is_host_name(plain) {
                let right = "write one as \"_http._tcp.app.internal\"";
                r.problem("name", format!("name: {name:?} is not a name; {right}"));
            }
            DiscoveryKind::Srv { name }
        }
        Word::File => {
            if path.is_none() {
                r.missing("discovery of kind \"file\" has no path; add one as \"backends.toml\"");
            }
            DiscoveryKind::File { path: path.unwrap_or_default() }
        }
    };
    Some(Discovery { kind, allow })
}

fn host_and_port(r: &mut Reader<'_>, name: &str) -> (String, u16) {
    let none = (String::new(), 1);
    if name.is_empty() {
        r.missing(
            "discovery of kind \"dns\" has no name; add one with its port as \"app.internal:3000\"",
        );
        return none;
    }
    let split = name.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let plain = host.trim_end_matches('.');
        fields::is_host_name(plain).then(|| (host.to_ascii_lowercase(), port))
    });
    split.unwrap_or_else(|| {
        let right = "write a name with its port as \"app.internal:3000\"";
        r.problem("name", format!("name: {name:?} cannot be looked up; {right}"));
        none
    })
}

fn path(value: &Value) -> Result<Option<std::path::PathBuf>, Wrong> {
    match values::string(value)?.is_empty() {
        true => Ok(None),
        false => values::path(value).map(Some),
    }
}

fn server(value: &Value) -> Result<SocketAddr, Wrong> {
    let text = values::string(value)?;
    let address =
        text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT)));
    address.or_else(|_| {
        let message =
            format!("{text:?} is not an address; write \"10.0.0.2\" or \"127.0.0.1:5353\"");
        wrong(value, message)
    })
}
