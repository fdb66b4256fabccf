//! `[service.NAME.transport]`: how backends are spoken to.

use rustls_pki_types::ServerName;

use crate::config::reader::Reader;
use crate::config::tree::Node;
use crate::config::types::{OriginTls, Protocol, ProxyHeader, Transport};

use super::fields;
use super::listener::{certificate_file, key_file};

pub fn read(r: &mut Reader<'_>) -> Transport {
    let protocol = r
        .one_of(
            "protocol",
            &[
                ("http/1.1", Protocol::Http1),
                ("h2", Protocol::H2),
                ("h2c", Protocol::H2c),
                ("auto", Protocol::Auto),
            ],
        )
        .or("http/1.1");
    let tls = tls(r);
    let wrong = match (protocol, &tls) {
        (Protocol::H2, None) => Some("h2 needs TLS; add tls = true, or write \"h2c\""),
        (Protocol::H2c, Some(_)) => Some("h2c is without TLS; write \"h2\""),
        _ => None,
    };
    if let Some(wrong) = wrong.filter(|_| !r.is_partial()) {
        r.problem("protocol", format!("protocol: {wrong}"));
    }
    let proxy_protocol = r
        .one_of(
            "proxy_protocol",
            &[("off", ProxyHeader::Off), ("v1", ProxyHeader::V1), ("v2", ProxyHeader::V2)],
        )
        .or("off");
    if proxy_protocol != ProxyHeader::Off && protocol != Protocol::Http1 && !r.is_partial() {
        let wrong = "a connection that stands for one client is not shared by others; \
            leave protocol at \"http/1.1\"";
        r.problem("proxy_protocol", format!("proxy_protocol: {wrong}"));
    }
    Transport {
        protocol,
        tls,
        connect_timeout: r.period("connect_timeout").or("3s"),
        response_timeout: r.period("response_timeout").or("60s"),
        read_timeout: r.period("read_timeout").or("60s"),
        write_timeout: r.period("write_timeout").or("60s"),
        idle_timeout: r.period("idle_timeout").or("4s"),
        max_idle_per_worker: r.int("max_idle_per_worker", 0..=65_535).or(256),
        proxy_protocol,
    }
}

/// A yes, a no, or a table with the details of a yes.
fn tls(r: &mut Reader<'_>) -> Option<OriginTls> {
    let plain = match r.table().get("tls").map(|value| &value.node) {
        Some(Node::Table(_)) => return Some(r.section("tls", details)),
        _ => r.bool("tls").or(false),
    };
    plain.then_some(OriginTls { ca: None, cert: None, key: None, server_name: None, verify: true })
}

fn details(r: &mut Reader<'_>) -> OriginTls {
    let tls = OriginTls {
        ca: fields::file(r, "ca", certificate_file),
        cert: fields::file(r, "cert", certificate_file),
        key: fields::file(r, "key", key_file),
        server_name: r.string("server_name").and(server_name).or(""),
        verify: r.bool("verify").or(true),
    };
    if tls.cert.is_some() != tls.key.is_some() {
        let (there, missing) = if tls.cert.is_some() { ("cert", "key") } else { ("key", "cert") };
        r.problem(there, format!("{there}: a certificate and its key go together; add {missing}"));
    }
    tls
}

fn server_name(name: String) -> Result<Option<ServerName<'static>>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    match ServerName::try_from(name.clone()) {
        Ok(name) => Ok(Some(name)),
        Err(_) => Err(format!("{name:?} is not a server name; write a host name or an IP address")),
    }
}
