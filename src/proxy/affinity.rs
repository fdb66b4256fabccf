//! What of a request ties it to a backend: the key of `balance = "hash"`.
//!
//! Read before the request is made ready for the backend, as the client sent it. Only services that ask for
//! it pay for it. Which backend it comes to is `balance`'s.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderName, header};

use crate::config::types::{Balance, HashOn};
use crate::http::cookies;
use crate::snapshot::ServiceView;
use crate::snapshot::hash::{self, fnv1a, mix};

/// The key, hashed; `None`: the request has none, or none is asked for.
#[inline]
pub fn key(service: &ServiceView, head: &Parts, client: IpAddr) -> Option<u64> {
    match service.config.balance {
        Balance::Hash => of_request(&service.config.hash_on, head, client),
        _ => None,
    }
}

fn of_request(on: &HashOn, head: &Parts, client: IpAddr) -> Option<u64> {
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
        of_request(&on, &head, IpAddr::from([192, 0, 2, 1]))
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
