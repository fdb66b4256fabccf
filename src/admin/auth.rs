//! Who asks the admin API, by token or by name and password, and what each may do.
//!
//! Without `[[admin.token]]` and `[[admin.user]]` whoever may connect may do everything. Tokens are
//! kept as their SHA-256, and every one is compared in full, so that how long it takes says
//! nothing; passwords are [`super::password`]'s. Who fails ten times in a minute is not heard for
//! a minute, with what is right neither.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use http::{HeaderValue, Method, StatusCode, header, request};
use tokio::sync::Semaphore;

use super::guard::Peer;
use super::lockout::{self, Lockout};
use super::password::{self, Passwords};
use super::problem::Problem;
use crate::base64;
use crate::config::types::{Admin, AdminToken, Role};

/// The tokens and the users.
#[derive(Debug)]
pub struct Auth {
    tokens: Vec<AdminToken>,
    passwords: Passwords,
    kept: Kept,
}

/// What outlives a reload.
#[derive(Debug, Clone)]
pub struct Kept {
    lockout: Arc<Lockout>,
    /// Turns for verifying passwords.
    turns: Arc<Semaphore>,
}

/// The name of a token or user; `None`: none is asked for.
pub type Name = Option<Arc<str>>;

/// What a request says for itself.
enum Given<'a> {
    Nothing,
    Token(&'a [u8]),
    /// Name and password.
    User(Vec<u8>, Vec<u8>),
    /// In a way that is not known here.
    Else,
}

impl Default for Kept {
    fn default() -> Self {
        Self { lockout: Arc::default(), turns: Arc::new(Semaphore::new(password::AT_ONCE)) }
    }
}

impl Auth {
    pub fn new(admin: &Admin, kept: Kept) -> Self {
        let passwords = Passwords::new(&admin.users, kept.turns.clone());
        Self { tokens: admin.tokens.clone(), passwords, kept }
    }

    pub fn kept(&self) -> Kept {
        self.kept.clone()
    }

    /// What a 401 asks for: a `WWW-Authenticate` header each.
    pub fn challenges(&self) -> impl Iterator<Item = HeaderValue> {
        let basic = "Basic realm=\"tidegate\", charset=\"UTF-8\"";
        let bearer = "Bearer realm=\"tidegate\"";
        let asked = [(!self.passwords.is_empty(), basic), (!self.tokens.is_empty(), bearer)];
        asked.into_iter().filter(|(asked, _)| *asked).map(|(_, how)| HeaderValue::from_static(how))
    }

    /// Finds out who it is, and whether it may do this.
    ///
    /// # Errors
    /// 401 without a token or password that is right, 403 for a role that is not enough, 429 after
    /// too many failures, 503 when too many passwords wait to be verified.
    pub async fn check(
        &self,
        peer: Peer,
        head: &request::Parts,
        now: Instant,
    ) -> Result<Name, Problem> {
        let open = self.tokens.is_empty() && self.passwords.is_empty();
        if open || matches!(head.uri.path(), "/healthz" | "/readyz") {
            return Ok(None);
        }
        let from = lockout::address(peer);
        self.hear(from, now)?;
        let found = match given(head) {
            Given::Nothing => {
                let detail = "a token or a password is needed: Authorization: Bearer TOKEN \
                              (--token) or Basic";
                return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
            }
            Given::Token(token) => self.token(token).map(|token| (&token.name, token.role)),
            Given::User(name, password) => self.user(from, &name, &password, now).await?,
            Given::Else => None,
        };
        let Some((name, role)) = found else {
            self.kept.lockout.failed(from, now);
            let detail = "this is no token, or no user's password";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
        };
        let needed = needed(&head.method, head.uri.path());
        if role < needed {
            let (role, needed) = (role.as_str(), needed.as_str());
            let detail = format!("{name} is {role}; this needs the role {needed}");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(Some(name.clone()))
    }

    fn hear(&self, from: std::net::IpAddr, now: Instant) -> Result<(), Problem> {
        if !self.kept.lockout.holds(from, now) {
            return Ok(());
        }
        let detail = "too many failures from this address; wait a minute";
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail))
    }

    fn token(&self, token: &[u8]) -> Option<&AdminToken> {
        let hash = digest::digest(&digest::SHA256, token);
        let mut found = None;
        for known in &self.tokens {
            if verify_slices_are_equal(hash.as_ref(), &known.hash).is_ok() {
                found = Some(known);
            }
        }
        found
    }

    async fn user(
        &self,
        from: std::net::IpAddr,
        name: &[u8],
        password: &[u8],
        now: Instant,
    ) -> Result<Option<(&Arc<str>, Role)>, Problem> {
        if let Some(user) = self.passwords.remembered(name, password, now) {
            return Ok(Some((&user.name, user.role)));
        }
        let Some(turn) = self.passwords.turn(password::PATIENCE).await else {
            let detail = "too many passwords wait to be verified; try again";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
        };
        // Others of the same address may have failed meanwhile.
        self.hear(from, now)?;
        let user = self.passwords.verify(turn, name, password, now).await;
        Ok(user.map(|user| (&user.name, user.role)))
    }
}

fn given(head: &request::Parts) -> Given<'_> {
    let Some(value) = head.headers.get(header::AUTHORIZATION) else { return Given::Nothing };
    let value = value.as_bytes();
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Given::Token(rest);
    }
    // RFC 7617 section 2: the first colon ends the name.
    let pair = scheme.eq_ignore_ascii_case(b"basic").then(|| base64::decode(rest)).flatten();
    let pair = pair.and_then(|pair| {
        let colon = pair.iter().position(|byte| *byte == b':')?;
        Some(Given::User(pair[..colon].to_vec(), pair[colon + 1..].to_vec()))
    });
    pair.unwrap_or(Given::Else)
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
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::admin::router::endpoints;

    fn auth() -> Auth {
        let token = |name: &str, role| {
            let hash = digest::digest(&digest::SHA256, format!("secret of {name}").as_bytes());
            let hash = hash.as_ref().try_into().expect("32 bytes");
            AdminToken { name: name.into(), hash, role, file: None }
        };
        with(vec![token("v", Role::Viewer), token("o", Role::Operator), token("a", Role::Admin)])
    }

    fn with(tokens: Vec<AdminToken>) -> Auth {
        Auth {
            tokens,
            passwords: Passwords::new(&[], Kept::default().turns),
            kept: Kept::default(),
        }
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
        auth.check(peer(1), &head, now)
            .now_or_never()
            .expect("tokens need no wait")
            .map_or_else(|problem| problem.status.as_u16(), |_| 200)
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
        for wrong in [
            "Bearer x",
            "Basic c2VjcmV0",
            "Basic ?",
            "Digest x",
            "Bearer",
            "Bearer ",
            "secret of a",
        ] {
            assert_eq!(get("/v1/status", wrong), 401, "{wrong}");
        }
        assert_eq!(get("/v1/status", "bearer  secret of a "), 200);
        assert_eq!(ask(&with(Vec::new()), "POST", "/v1/reload", "", now), 200, "none is asked for");
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
        assert!(
            !auth.kept.lockout.holds(lockout::address(peer(2)), begin + Duration::from_secs(10))
        );
    }
}
