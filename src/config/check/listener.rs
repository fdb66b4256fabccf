//! `[[listener]]`: addresses, limits, timeouts, certificates.

use std::path::PathBuf;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::reader::Reader;
use crate::config::tree::{Node, Value};
use crate::config::types::{
    Certificate, ClientAuth, ListenAddress, Listener, ListenerLimit, ListenerTimeout, ListenerTls,
    TlsVersion, UnknownSni,
};
use crate::config::values::{self, Wrong};

use super::process::readable;
use super::{Bound, Named, fields};

/// One listener and the addresses it binds.
pub struct Read {
    pub listener: Listener,
    pub bound: Vec<Bound>,
}

impl Read {
    /// Its certificate and key files.
    pub fn files(&self) -> Vec<PathBuf> {
        let tls = self.listener.tls.iter();
        let certificates = tls.clone().flat_map(|tls| &tls.certificates);
        let files = certificates.flat_map(|one| [one.cert.clone(), one.key.clone()]);
        files.chain(tls.filter_map(|tls| tls.client_ca.clone())).collect()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Http1,
    Http2,
    Http3,
}

const PROTOCOLS: [(&str, Protocol); 3] =
    [("http/1.1", Protocol::Http1), ("h2", Protocol::Http2), ("h3", Protocol::Http3)];

pub fn read(r: &mut Reader<'_>) -> Named<Read> {
    let name = r.string("name").and(name).required();
    let bound = r.field("address", addresses).required();
    let protocols = r
        .list("protocols", |value| values::one_of(value, &PROTOCOLS))
        .and(|list| match list.is_empty() {
            true => Err("an empty list; write \"http/1.1\", \"h2\" or both".to_owned()),
            false => Ok(list),
        })
        .or(["http/1.1", "h2"]);
    let listener = Listener {
        name: name.as_str().into(),
        address: bound.iter().map(|(address, _)| address.clone()).collect(),
        http1: protocols.contains(&Protocol::Http1),
        http2: protocols.contains(&Protocol::Http2),
        http3: protocols.contains(&Protocol::Http3),
        proxy_protocol: r.one_of("proxy_protocol", &[("off", false), ("accept", true)]).or("off"),
        trusted_proxies: r.list("trusted_proxies", fields::network).or([]),
        max_connections: r.int("max_connections", 1..=10_000_000).or(16384),
        max_connections_per_ip: r.int("max_connections_per_ip", 0..=10_000_000).or(0),
        redirect_to_https: r.bool("redirect_to_https").or(false),
        timeout: r.section("timeout", timeout),
        limit: r.section("limit", limit),
        tls: r.section_if("tls", tls),
    };
    if listener.proxy_protocol && listener.trusted_proxies.is_empty() {
        let message =
            "proxy_protocol: nobody may send a PROXY header; name who may in trusted_proxies";
        r.problem("proxy_protocol", message);
    }
    if listener.http3 {
        http3(r, &listener);
    }
    if listener.redirect_to_https && listener.tls.is_some() {
        let message =
            "redirect_to_https: this listener has [listener.tls] already; keep one of them";
        r.problem("redirect_to_https", message);
    }
    Named { place: r.place("name"), name, item: Read { listener, bound } }
}

/// What HTTP/3 needs, and what it cannot be together with.
fn http3(r: &mut Reader<'_>, listener: &Listener) {
    if listener.tls.is_none() {
        let message = "protocols: \"h3\" is always encrypted; add [listener.tls] with a certificate, or take \"h3\" out";
        r.problem("protocols", message);
    }
    if !listener.http1 && !listener.http2 {
        let message = "protocols: clients find \"h3\" by what other protocols say of it; add \"h2\" or \"http/1.1\"";
        r.problem("protocols", message);
    }
    if listener.proxy_protocol {
        let message = "protocols: there is no PROXY header over QUIC; take \"h3\" out, or give it a listener without proxy_protocol";
        r.problem("protocols", message);
    }
}

fn timeout(r: &mut Reader<'_>) -> ListenerTimeout {
    ListenerTimeout {
        handshake: r.period("handshake").or("10s"),
        header: r.period("header").or("10s"),
        body: r.period("body").or("30s"),
        keep_alive: r.period("keep_alive").or("75s"),
        write: r.period("write").or("30s"),
        tunnel: r.period("tunnel").or("1h"),
    }
}

fn limit(r: &mut Reader<'_>) -> ListenerLimit {
    ListenerLimit {
        header_bytes: fields::bytes(r, "header_bytes", 1024..=1 << 20, "32KiB"),
        header_count: r.int("header_count", 1..=10_000).or(100),
        uri_bytes: fields::bytes(r, "uri_bytes", 64..=65_536, "8KiB"),
        h2_streams: r.int("h2_streams", 1..=10_000).or(128),
        h2_resets_per_second: r.int("h2_resets_per_second", 1..=1_000_000).or(100),
    }
}

fn tls(r: &mut Reader<'_>) -> ListenerTls {
    let tls = ListenerTls {
        min_version: r
            .one_of("min_version", &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)])
            .or("1.2"),
        session_tickets: r.bool("session_tickets").or(true),
        client_ca: fields::file(r, "client_ca", certificate_file),
        client_auth: r
            .one_of(
                "client_auth",
                &[("require", ClientAuth::Require), ("request", ClientAuth::Request)],
            )
            .or("require"),
        unknown_sni: r
            .one_of(
                "unknown_sni",
                &[("reject", UnknownSni::Reject), ("default", UnknownSni::Default)],
            )
            .or("reject"),
        certificates: r.sections("certificate", certificate),
    };
    if !r.has("certificate") {
        r.missing("TLS without a certificate; add [[listener.tls.certificate]] with cert and key");
    }
    tls
}

pub(super) fn certificate(r: &mut Reader<'_>) -> Certificate {
    Certificate {
        cert: r.path("cert").and(certificate_file).required(),
        key: r.path("key").and(key_file).required(),
    }
}

pub(super) fn certificate_file(path: PathBuf) -> Result<PathBuf, String> {
    let pem = readable(&path, "name a PEM file with the certificate and its chain")?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if !chain.is_empty() => Ok(path),
        Ok(_) => {
            Err(format!("{} has no certificate; name a PEM file that has one", path.display()))
        }
        Err(error) => Err(format!(
            "{} is not PEM ({error}); name a PEM file with a certificate",
            path.display()
        )),
    }
}

pub(super) fn key_file(path: PathBuf) -> Result<PathBuf, String> {
    let pem = readable(&path, "name a PEM file with the private key")?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!(
            "{} has no private key ({error}); name an unencrypted PEM file that has one",
            path.display()
        )),
    }
}

/// Not empty and printable: it is a label of metrics.
pub fn name(name: String) -> Result<String, String> {
    if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
        return Err(format!("{name:?} is not a name; write 1 to 128 printable characters"));
    }
    Ok(name)
}

/// One address or a list of them.
fn addresses(value: &Value) -> Result<Vec<Bound>, Wrong> {
    let one = |value: &Value| Ok((address(value)?, value.place.clone()));
    match &value.node {
        Node::Array(values) if values.is_empty() => {
            values::wrong(value, "an empty list; write IP:PORT as \"0.0.0.0:80\"")
        }
        Node::Array(_) => values::list(value, one),
        _ => one(value).map(|one| vec![one]),
    }
}

/// An address to bind, or `fd:NAME` for one that a service manager binds.
fn address(value: &Value) -> Result<ListenAddress, Wrong> {
    let text = values::string(value)?;
    let Some(name) = text.strip_prefix("fd:") else {
        return fields::socket_address(value).map(ListenAddress::Socket);
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == ':';
    if name.is_empty() || name.len() > 255 || name.contains(odd) {
        let message = format!(
            "{name:?} is not the name of a socket; write \"fd:NAME\" with its FileDescriptorName"
        );
        return values::wrong(value, message);
    }
    Ok(ListenAddress::Passed(name.into()))
}
