//! Who may ask the admin API for what: the checks that every request passes first.
//!
//! Whose token or password it is is [`super::auth`]'s. The API is for local tools, so its other enemy is a browser on the same
//! machine: a page may send requests to loopback. The Host check defeats DNS rebinding; the
//! Content-Type and Origin checks defeat cross-site changes, as a foreign page cannot send
//! `application/json` without a preflight, which is never granted.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request};
use ipnet::IpNet;

use super::auth::{Auth, Kept, Name};
use super::problem::Problem;
use super::secure::Secure;
use crate::config::types as config;

/// Who may connect, and under which names. Replaced as a whole by a reload.
#[derive(Debug)]
pub struct Access {
    /// Lower case, without port.
    hosts: Vec<String>,
    allow: Vec<IpNet>,
    auth: Auth,
    secure: Secure,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// The file's mode has let it in; the ids are for the audit log.
    Unix {
        uid: Option<u32>,
        pid: Option<i32>,
    },
}

impl Access {
    /// `tls`: what `admin.tls` was read to. `kept`: of the access before this one.
    pub fn new(admin: &config::Admin, tls: Option<Arc<rustls::ServerConfig>>, kept: Kept) -> Self {
        let hosts = admin.hosts.iter().map(|host| name_of(host).to_ascii_lowercase()).collect();
        let unix = matches!(admin.listen, config::AdminListen::Unix(_));
        let secure = match &admin.tls {
            Some(_) if !unix => Secure::On(tls),
            _ => Secure::Off,
        };
        Self { hosts, allow: admin.allow.clone(), auth: Auth::new(admin, kept), secure }
    }

    pub fn kept(&self) -> Kept {
        self.auth.kept()
    }

    pub fn secure(&self) -> &Secure {
        &self.secure
    }

    /// What a 401 asks for: a `WWW-Authenticate` header each.
    pub fn challenges(&self) -> impl Iterator<Item = HeaderValue> {
        self.auth.challenges()
    }

    /// Passes a request, and says whose it is, or says what is wrong with it.
    pub async fn check(
        &self,
        peer: Peer,
        head: &request::Parts,
        now: Instant,
    ) -> Result<Name, Problem> {
        self.check_peer(peer)?;
        let host = self.check_host(&head.uri, &head.headers)?;
        if changes(&head.method) {
            check_content_type(&head.headers)?;
            check_origin(host, &head.headers)?;
        }
        self.auth.check(peer, head, now).await
    }

    fn check_peer(&self, peer: Peer) -> Result<(), Problem> {
        let Peer::Tcp(address) = peer else { return Ok(()) };
        let ip = address.ip().to_canonical();
        if self.allow.iter().any(|net| net.contains(&ip)) {
            return Ok(());
        }
        Err(Problem::new(StatusCode::FORBIDDEN, format!("{ip} is not within admin.allow")))
    }

    /// The authority the request was sent to. That of an absolute target wins over the
    /// header (RFC 9112 section 3.2.2).
    fn check_host<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Problem> {
        let mut all = headers.get_all(header::HOST).iter();
        let (first, second) = (all.next(), all.next());
        if second.is_some() {
            return Err(Problem::bad_request("the request has more than one Host header"));
        }
        let host = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => first
                .ok_or_else(|| Problem::bad_request("the request has no Host header"))?
                .to_str()
                .map_err(|_| Problem::bad_request("the Host header is not a host name"))?,
        };
        if self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name_of(host))) {
            return Ok(host);
        }
        let known = self.hosts.join(", ");
        let detail = format!("the host {host:?} is not one of admin.hosts ({known})");
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
    }
}

/// Whose request it is, for the audit log.
#[derive(Debug, Clone)]
pub struct Who {
    pub peer: Peer,
    pub name: Name,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { uid, pid } => {
                f.write_str("unix")?;
                uid.map_or(Ok(()), |uid| write!(f, " uid={uid}"))?;
                pid.map_or(Ok(()), |pid| write!(f, " pid={pid}"))
            }
        }
    }
}

/// Whether a method asks for a change. What is neither is answered with 405 by the router.
fn changes(method: &Method) -> bool {
    !method.is_safe()
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "whatever changes something needs Content-Type: application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

/// No Origin is a tool; an Origin must be the page that we served ourselves.
fn check_origin(host: &str, headers: &HeaderMap) -> Result<(), Problem> {
    let foreign = headers.get_all(header::ORIGIN).iter().find(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        !own.is_some_and(|own| own.eq_ignore_ascii_case(host))
    });
    match foreign {
        None => Ok(()),
        Some(origin) => {
            let detail = format!("changes from the foreign origin {origin:?} are refused");
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
    }
}

/// `localhost:9900` → `localhost`, `[::1]:9900` → `[::1]`.
fn name_of(host: &str) -> &str {
    let name = match host.rfind(']') {
        Some(end) if matches!(host.as_bytes().get(end + 1), None | Some(b':')) => &host[..=end],
        Some(_) => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const LOOPBACK: Peer =
        Peer::Tcp(SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1)));

    fn access() -> Access {
        let admin = config::Admin {
            listen: config::AdminListen::Tcp(([127, 0, 0, 1], 0).into()),
            public_listen: None,
            hosts: vec!["localhost".into(), "127.0.0.1".into(), "[::1]".into()],
            allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            dynamic_backends: Vec::new(),
            tls: None,
            users: Vec::new(),
            tokens: Vec::new(),
        };
        Access::new(&admin, None, Kept::default())
    }

    fn verdict(peer: Peer, method: Method, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let access = access();
        let checked = access.check(peer, &head, Instant::now()).now_or_never().expect("no wait");
        checked.map_or_else(|problem| problem.status.as_u16(), |_| 200)
    }

    #[test]
    fn the_host_must_be_known_whatever_its_port_and_case() {
        let get = |host: &str| verdict(LOOPBACK, Method::GET, "/", &[("host", host)]);
        for host in ["localhost", "LocalHost:9900", "localhost.", "127.0.0.1:1", "[::1]:9900"] {
            assert_eq!(get(host), 200, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "", "[::1].evil", "::1"] {
            assert_eq!(get(host), 421, "{host}");
        }
        assert_eq!(verdict(LOOPBACK, Method::GET, "/", &[]), 400);
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(verdict(LOOPBACK, Method::GET, "/", &twice), 400);
        let absolute = "http://evil.example/";
        assert_eq!(verdict(LOOPBACK, Method::GET, absolute, &[("host", "localhost")]), 421);
    }

    #[test]
    fn peers_outside_allow_are_refused_and_unix_peers_are_not() {
        let get = |peer| verdict(peer, Method::GET, "/", &[("host", "localhost")]);
        assert_eq!(get(Peer::Tcp("192.0.2.1:5".parse().unwrap())), 403);
        assert_eq!(get(Peer::Tcp("[::ffff:127.0.0.1]:5".parse().unwrap())), 200);
        assert_eq!(get(Peer::Tcp("[::1]:5".parse().unwrap())), 200);
        assert_eq!(get(Peer::Unix { uid: Some(0), pid: None }), 200);
    }

    #[test]
    fn a_change_must_be_json_and_not_come_from_a_foreign_page() {
        let post = |headers: &[(&str, &str)]| {
            let all: Vec<_> = [("host", "localhost:9900")].iter().chain(headers).copied().collect();
            verdict(LOOPBACK, Method::POST, "/", &all)
        };
        let json = ("content-type", "application/json");
        assert_eq!(post(&[]), 415);
        assert_eq!(post(&[("content-type", "text/plain")]), 415);
        assert_eq!(post(&[("content-type", "application/json-seq")]), 415);
        assert_eq!(post(&[json]), 200);
        assert_eq!(post(&[("content-type", "Application/JSON; charset=utf-8")]), 200);
        assert_eq!(post(&[json, ("origin", "http://localhost:9900")]), 200);
        for origin in ["null", "http://localhost:3000", "http://evil.example", "localhost:9900"] {
            assert_eq!(post(&[json, ("origin", origin)]), 403, "{origin}");
        }
    }
}
