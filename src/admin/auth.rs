//! Who asks the admin API, by its token, and what each may do.
//!
//! Without `[[admin.token]]` whoever may connect may do everything. Tokens are kept as their SHA-256, and every one is
//! compared in full, so that how long it takes says nothing. Who fails ten times in a minute is not heard for
//! a minute, with a right token neither.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use http::{Method, StatusCode, header, request};

use super::guard::Peer;
use super::problem::Problem;
use crate::config::types::{AdminToken, Role};

/// Failures of one address within [`MINUTE`] after which it is not heard for as long.
const FAILURES: u32 = 10;
pub const MINUTE: Duration = Duration::from_secs(60);
/// Addresses whose failures are counted at once; `admin.allow` says who can be one at all.
const MOST: usize = 4096;

/// The tokens, and who failed.
#[derive(Debug)]
pub struct Auth {
    tokens: Vec<AdminToken>,
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

/// The name of a token; `None`: none is asked for.
pub type Name = Option<Arc<str>>;

impl Auth {
    pub fn new(tokens: &[AdminToken]) -> Self {
        Self { tokens: tokens.to_vec(), failures: Mutex::default() }
    }

    /// Finds out who it is, and whether it may do this.
    ///
    /// # Errors
    /// 401 without a token that is known, 403 for a role that is not enough, 429 after too many failures.
    pub fn check(&self, peer: Peer, head: &request::Parts, now: Instant) -> Result<Name, Problem> {
        if self.tokens.is_empty() || matches!(head.uri.path(), "/healthz" | "/readyz") {
            return Ok(None);
        }
        let from = address(peer);
        if self.is_locked_out(from, now) {
            let detail = "too many failures from this address; wait a minute";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail));
        }
        let Some(token) = self.token(head) else {
            let given = head.headers.contains_key(header::AUTHORIZATION);
            if given {
                self.failed(from, now);
            }
            let detail = match given {
                true => "this is none of the tokens",
                false => "a token is needed: Authorization: Bearer TOKEN, or --token",
            };
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
        };
        let needed = needed(&head.method, head.uri.path());
        if token.role < needed {
            let (name, role, needed) = (&token.name, token.role.as_str(), needed.as_str());
            let detail = format!("{name} is {role}; this needs the role {needed}");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(Some(token.name.clone()))
    }

    fn token(&self, head: &request::Parts) -> Option<&AdminToken> {
        let value = head.headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, token) = value.split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return None;
        }
        let hash = digest::digest(&digest::SHA256, token.trim_ascii());
        let mut found = None;
        for known in &self.tokens {
            if verify_slices_are_equal(hash.as_ref(), &known.hash).is_ok() {
                found = Some(known);
            }
        }
        found
    }

    fn is_locked_out(&self, from: IpAddr, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let of = failures.get(&from).filter(|(since, _)| now.duration_since(*since) < MINUTE);
        of.is_some_and(|(_, count)| *count >= FAILURES)
    }

    fn failed(&self, from: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST {
            failures.retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
        }
        if failures.len() >= MOST && !failures.contains_key(&from) {
            return;
        }
        let of = failures.entry(from).or_insert((now, 0));
        if now.duration_since(of.0) >= MINUTE {
            *of = (now, 0);
        }
        of.1 += 1;
        // The last one begins the minute in which it is not heard.
        if of.1 == FAILURES {
            of.0 = now;
        }
    }
}

/// What an address counts as; all peers of a unix socket are one.
fn address(peer: Peer) -> IpAddr {
    match peer {
        Peer::Unix { .. } => Ipv6Addr::UNSPECIFIED.into(),
        Peer::Tcp(address) => match address.ip().to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
            v4 => v4,
        },
    }
}

/// The least role for a call. What is not known needs the highest.
fn needed(method: &Method, path: &str) -> Role {
    if method.is_safe() {
        // It has commands and addresses of everything.
        return if path == "/v1/config" { Role::Admin } else { Role::Viewer };
    }
    let parts: Vec<_> = path.split('/').skip(1).collect();
    match (method.as_str(), &parts[..]) {
        ("POST", ["v1", "services", _, "backends", _, "drain" | "undrain"])
        | ("PUT" | "DELETE", ["v1", "services", _, "scaling"])
        | ("POST", ["v1", "services", _, "record"])
        | ("DELETE", ["v1", "bans", _]) => Role::Operator,
        _ => Role::Admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::router::endpoints;

    fn auth() -> Auth {
        let token = |name: &str, role| {
            let hash = digest::digest(&digest::SHA256, format!("secret of {name}").as_bytes());
            let hash = hash.as_ref().try_into().expect("32 bytes");
            AdminToken { name: name.into(), hash, role, file: None }
        };
        Auth::new(&[token("v", Role::Viewer), token("o", Role::Operator), token("a", Role::Admin)])
    }

    fn peer(last: u8) -> Peer {
        Peer::Tcp(([127, 0, 0, last], 5).into())
    }

    fn ask(auth: &Auth, method: &str, path: &str, token: &str, now: Instant) -> u16 {
        let mut request = http::Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", token);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        auth.check(peer(1), &head, now).map_or_else(|problem| problem.status.as_u16(), |_| 200)
    }

    #[test]
    fn each_call_needs_its_role() {
        let (auth, now) = (auth(), Instant::now());
        for endpoint in endpoints() {
            let path = endpoint.path.replace("{name}", "drain").replace("{id}", "drain");
            let path = path.replace("{address}", "10.0.0.1");
            let of = |who: &str| {
                let token = format!("Bearer secret of {who}");
                ask(&auth, endpoint.method.as_str(), &path, &token, now) == 200
            };
            let wanted = match (endpoint.method.as_str(), endpoint.path) {
                ("GET", "/v1/config") | ("POST", "/v1/reload") => [false, false, true],
                ("POST", "/v1/services/{name}/backends") => [false, false, true],
                ("DELETE", "/v1/services/{name}/backends/{id}") => [false, false, true],
                ("GET", _) => [true, true, true],
                _ => [false, true, true],
            };
            assert_eq!(["v", "o", "a"].map(of), wanted, "{} {path}", endpoint.method);
        }
        assert_eq!(ask(&auth, "POST", "/v1/else", "Bearer secret of o", now), 403);
    }

    #[test]
    fn without_a_token_there_is_only_health() {
        let (auth, now) = (auth(), Instant::now());
        let get = |path, token| ask(&auth, "GET", path, token, now);
        assert_eq!([get("/healthz", ""), get("/readyz", ""), get("/metrics", "")], [200, 200, 401]);
        for wrong in ["Bearer x", "Basic c2VjcmV0", "Bearer", "Bearer ", "secret of a"] {
            assert_eq!(get("/v1/status", wrong), 401, "{wrong}");
        }
        assert_eq!(get("/v1/status", "bearer  secret of a "), 200);
        assert_eq!(ask(&Auth::new(&[]), "POST", "/v1/reload", "", now), 200, "none is asked for");
    }

    #[test]
    fn who_fails_again_and_again_is_not_heard_for_a_minute() {
        let (auth, begin) = (auth(), Instant::now());
        let get = |token, seconds| {
            ask(&auth, "GET", "/v1/status", token, begin + Duration::from_secs(seconds))
        };
        let right = "Bearer secret of v";
        for _ in 0..20 {
            assert_eq!(get("", 0), 401, "nothing was tried");
        }
        for n in 0..10 {
            assert_eq!(get("Bearer x", n), 401);
        }
        assert_eq!((get("Bearer x", 10), get(right, 60)), (429, 429));
        assert_eq!(get(right, 70), 200);
        for n in 0..30 {
            assert_eq!(get("Bearer x", 100 + 10 * n), 401, "six a minute");
        }
        let others = Peer::Tcp(([127, 0, 0, 2], 5).into());
        assert_ne!(address(others), address(peer(1)));
    }

    #[test]
    fn the_table_is_bounded() {
        let (auth, begin) = (auth(), Instant::now());
        for n in 0..MOST as u32 + 100 {
            auth.failed(std::net::Ipv4Addr::from(n).into(), begin);
        }
        assert_eq!(auth.failures.lock().expect("lock").len(), MOST);
        auth.failed([10, 0, 0, 1].into(), begin + MINUTE);
        assert_eq!(auth.failures.lock().expect("lock").len(), 1);
    }
}
