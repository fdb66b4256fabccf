//! `redirect`: the Location that a client is sent to.
//!
//! The configuration says where to; a client may only fill in its own host, path and query.
//! A path that would be read as another host (`//evil.example`) loses its further slashes, and
//! nothing that ends a header line gets in.

use http::HeaderValue;

/// The value of Location for `to`, with `{host}`, `{path}` and `{query}` replaced. `{path}`
/// carries the query unless `to` has `{query}`. `None` if the host is needed and not known.
///
/// `host` is the name from [`crate::http::host`] (checked there); `path` and `query` are the
/// request target's.
pub fn location(to: &str, host: &str, path: &str, query: Option<&str>) -> Option<HeaderValue> {
    let query_is_placed = to.contains("{query}");
    let mut out = String::with_capacity(to.len() + host.len() + path.len() + 16);
    let mut rest = to;
    while let Some(brace) = rest.find('{') {
        out.push_str(&rest[..brace]);
        rest = &rest[brace..];
        if let Some(after) = rest.strip_prefix("{host}") {
            if host.is_empty() {
                return None;
            }
            out.push_str(host);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{path}") {
            push_path(&mut out, path);
            if let Some(query) = query.filter(|_| !query_is_placed) {
                out.push('?');
                push_escaped(&mut out, query);
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{query}") {
            push_escaped(&mut out, query.unwrap_or_default());
            rest = after;
        } else {
            out.push('{');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    HeaderValue::from_maybe_shared(bytes::Bytes::from(out)).ok()
}

fn push_path(out: &mut String, path: &str) {
    let path = path.trim_start_matches(['/', '\\']);
    // `to` may bring the slash itself: `https://example.com/{path}`.
    if !out.ends_with('/') {
        out.push('/');
    }
    push_escaped(out, if path == "*" { "" } else { path });
}

/// Bytes that may not stand in a URI are escaped; what is escaped already stays.
fn push_escaped(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=b' ' | 0x7f.. => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(DIGITS[usize::from(byte >> 4)] as char);
                out.push(DIGITS[usize::from(byte & 15)] as char);
            }
            byte => out.push(byte as char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        for (to, path, query, expected) in [
            ("https://{host}{path}", "/a", None, "https://h.test/a"),
            ("https://{host}{path}", "/a", Some("b=c"), "https://h.test/a?b=c"),
            ("https://{host}{path}", "/", None, "https://h.test/"),
            ("https://{host}{path}", "//evil.test/x", None, "https://h.test/evil.test/x"),
            ("https://{host}{path}", "*", None, "https://h.test/"),
            ("{path}", "//evil.test", None, "/evil.test"),
            ("{path}", "/\\evil.test", None, "/evil.test"),
            ("{path}", "///evil.test", Some("x"), "/evil.test?x"),
            ("https://new.test/{path}", "/a/b", None, "https://new.test/a/b"),
            ("https://new.test/old{path}", "/a", None, "https://new.test/old/a"),
            ("https://new.test/?p={path}&{query}", "/a", Some("q=1"), "https://new.test/?p=/a&q=1"),
            ("https://new.test/?{query}", "/a", None, "https://new.test/?"),
            ("https://new.test/", "/a", Some("q"), "https://new.test/"),
            ("/fixed{x}", "/a", None, "/fixed{x}"),
            ("{path}", "/caf\u{e9}\"{x}", None, "/caf%C3%A9%22%7Bx%7D"),
            ("{path}", "/a%0d%0aSet-Cookie:x", None, "/a%0d%0aSet-Cookie:x"),
            ("{path}", "/a\r\nSet-Cookie: x", None, "/a%0D%0ASet-Cookie:%20x"),
        ] {
            let got = location(to, "h.test", path, query).expect("valid");
            assert_eq!(got, expected, "{to} {path} {query:?}");
        }
    }

    #[test]
    fn no_host_no_redirect_to_it() {
        assert_eq!(location("https://{host}/", "", "/", None), None);
        assert!(location("https://fixed.test/", "", "/", None).is_some());
    }
}
