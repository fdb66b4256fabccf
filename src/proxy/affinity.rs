//! What of a request ties it to a backend: the key of `balance = "hash"`, and the cookie of `sticky`.
//!
//! Read before the request is made ready for the backend, as the client sent it; of the cookie the backend
//! sees nothing. The answer gives it to the client when somebody else answered than it says, or when it is to
//! be renewed, and not otherwise. Only services that ask for any of this pay for it. Which backend it comes
//! to is `balance`'s.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderName, header, response};

use crate::clock::{Clock, Micros};
use crate::config::types::{Balance, HashOn};
use crate::http::client::Client;
use crate::http::{cookies, forwarded};
use crate::snapshot::ServiceView;
use crate::snapshot::hash::{self, fnv1a, mix};
use crate::snapshot::sessions::Sessions;

use super::exchange::Held;

/// Cookies of our name that are looked at: with more of them somebody plays.
const COOKIES: usize = 2;

/// What ties one request to a backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Affinity {
    /// The key, hashed; `None`: the request has none, or none is asked for.
    pub key: Option<u64>,
    /// The backend that its cookie names, as a handle of [`Sessions`].
    pub session: Option<u64>,
    /// The cookie is to be given anew.
    is_due: bool,
    /// The client came by TLS.
    secure: bool,
}

impl Affinity {
    /// Reads it, and takes our cookie out of the request.
    #[inline]
    pub fn of_request(
        service: &ServiceView,
        from: &Client,
        head: &mut Parts,
        client: IpAddr,
        now: Micros,
    ) -> Self {
        let mut affinity = Self::default();
        if service.config.balance == Balance::Hash {
            affinity.key = key(&service.config.hash_on, head, client);
        }
        if let Some(sessions) = &service.sessions {
            affinity.join(sessions, from, &mut head.headers, now);
        }
        affinity
    }

    fn join(&mut self, sessions: &Sessions, from: &Client, headers: &mut HeaderMap, now: Micros) {
        let at = from.worker.clock.wall(now);
        let session = cookies::values(headers, sessions.cookie())
            .take(COOKIES)
            .find_map(|value| sessions.read(value, at));
        self.session = session.map(|session| session.handle);
        self.is_due = session.is_some_and(|session| session.is_due);
        self.secure = forwarded::is_https(headers, &from.peer);
        cookies::remove(headers, sessions.cookie());
    }

    /// Gives the client the cookie of the backend that answered, unless it has it. Not with an answer
    /// that says that this backend is not the one to stay with.
    #[inline]
    pub fn announce(&self, held: &Held, head: &mut response::Parts, clock: &Clock, at: Micros) {
        let view = &held.service().view;
        let Some(sessions) = &view.sessions else { return };
        let named = self.session.and_then(|handle| sessions.member(handle));
        let backend = &held.backend.backend;
        let is_named = named.is_some_and(|i| view.backends[i].backend.uid == backend.uid);
        let stays_away = matches!(head.status.as_u16(), 502..=504);
        if stays_away || is_named && !self.is_due {
            return;
        }
        let cookie = sessions.write(&backend.id, clock.wall(at), self.secure);
        head.headers.append(header::SET_COOKIE, cookie);
    }
}

fn key(on: &HashOn, head: &Parts, client: IpAddr) -> Option<u64> {
    match on {
        HashOn::ClientIp => Some(hash::client(client)),
        HashOn::Uri => {
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
            of_bytes([target.as_bytes()])
        }
        HashOn::Header(name) => match head.uri.authority() {
            // Where HTTP/2 has its Host.
            Some(host) if name == header::HOST => of_bytes([host.as_str().as_bytes()]),
            _ => of_header(head, name),
        },
        HashOn::Cookie(name) => of_bytes(cookies::values(&head.headers, name).take(1)),
    }
}

fn of_header(head: &Parts, name: &HeaderName) -> Option<u64> {
    of_bytes(head.headers.get_all(name).iter().map(|value| value.as_bytes()))
}

/// An empty value is none.
fn of_bytes<'b>(parts: impl IntoIterator<Item = &'b [u8]>) -> Option<u64> {
    let mut parts = parts.into_iter().filter(|part| !part.is_empty());
    let first = fnv1a(hash::START, parts.next()?);
    // Several fields are one list (RFC 9110 §5.3).
    Some(mix(parts.fold(first, |hash, part| fnv1a(fnv1a(hash, b", "), part))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn key(on: &str, request: http::request::Builder) -> Option<u64> {
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let on = match on.split_once(':') {
            Some(("header", name)) => HashOn::Header(name.parse().expect("a name")),
            Some((_, name)) => HashOn::Cookie(name.into()),
            None => HashOn::Uri,
        };
        super::key(&on, &head, IpAddr::from([192, 0, 2, 1]))
    }

    fn get(uri: &str) -> http::request::Builder {
        Request::get(uri)
    }

    #[test]
    fn the_target_counts_with_its_query_and_without_its_host() {
        assert_eq!(key("uri", get("/a?b=1")), key("uri", get("http://h.test/a?b=1")));
        assert_ne!(key("uri", get("/a?b=1")), key("uri", get("/a?b=2")));
    }

    #[test]
    fn a_header_or_cookie_that_is_not_there_or_empty_is_no_key() {
        assert_eq!(key("header:x-user", get("/")), None);
        assert_eq!(key("header:x-user", get("/").header("x-user", "")), None);
        assert_eq!(key("cookie:sid", get("/").header("cookie", "a=sid; sid=")), None);
        let one = key("cookie:sid", get("/").header("cookie", "a=1; sid=7"));
        assert!(one.is_some());
        assert_eq!(one, key("cookie:sid", get("/x").header("cookie", "sid=7; sid=8; b=2")));
    }

    #[test]
    fn fields_of_a_list_are_one_value_and_host_is_one_however_it_comes() {
        let two = get("/").header("x-user", "a").header("x-user", "b");
        assert_eq!(
            key("header:x-user", two),
            key("header:x-user", get("/").header("x-user", "a, b"))
        );
        let host = key("header:host", get("/").header("host", "h.test"));
        assert_eq!(host, key("header:host", get("http://h.test/")));
    }
}
