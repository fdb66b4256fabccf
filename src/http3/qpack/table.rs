//! The static table of QPACK (RFC 9204 Appendix A): fields that are known to both sides beforehand.

/// Name and value by index.
pub(super) const ENTRIES: [(&str, &str); 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];

/// The status whose name is referred to for those that have no entry.
pub(super) const STATUS: usize = 24;

/// The entries that have this name: where they begin and end. Some names come again further down, with
/// values that answers do not have.
pub(super) fn named(name: &str) -> Option<(usize, usize)> {
    Some(match name {
        "age" => (2, 2),
        "content-disposition" => (3, 3),
        "content-length" => (4, 4),
        "date" => (6, 6),
        "etag" => (7, 7),
        "last-modified" => (10, 10),
        "link" => (11, 11),
        "location" => (12, 12),
        "set-cookie" => (14, 14),
        "accept-ranges" => (32, 32),
        "access-control-allow-headers" => (33, 34),
        "access-control-allow-origin" => (35, 35),
        "cache-control" => (36, 41),
        "content-encoding" => (42, 43),
        "content-type" => (44, 54),
        "strict-transport-security" => (56, 58),
        "vary" => (59, 60),
        "x-content-type-options" => (61, 61),
        "x-xss-protection" => (62, 62),
        "access-control-allow-credentials" => (73, 74),
        "access-control-allow-methods" => (76, 78),
        "access-control-expose-headers" => (79, 79),
        "alt-svc" => (83, 83),
        "content-security-policy" => (85, 85),
        "expect-ct" => (87, 87),
        "server" => (92, 92),
        "timing-allow-origin" => (93, 93),
        "x-frame-options" => (97, 98),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_where_they_are_said_to_be() {
        assert_eq!(ENTRIES[STATUS].0, ":status");
        let mut named_ones = 0;
        for (name, _) in ENTRIES {
            if let Some((first, last)) = named(name) {
                assert!(ENTRIES[first..=last].iter().all(|entry| entry.0 == name), "{name}");
                assert!(first == 0 || ENTRIES[first - 1].0 != name, "{name}");
                named_ones += 1;
            }
        }
        assert!(named_ones > 40);
    }
}
