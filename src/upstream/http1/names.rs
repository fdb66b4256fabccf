//! Names of fields.

use http::{HeaderName, header};

/// The name that these bytes are, in lower case; `None`: it is no token.
///
/// Those that nearly every answer has, as nearly everybody writes them, cost a look: finding them in any spelling
/// is a tenth of what a small answer costs.
#[inline]
pub(super) fn read(bytes: &[u8]) -> Option<HeaderName> {
    Some(match bytes {
        b"Age" | b"age" => header::AGE,
        b"Via" | b"via" => header::VIA,
        b"Date" | b"date" => header::DATE,
        b"ETag" | b"etag" => header::ETAG,
        b"Link" | b"link" => header::LINK,
        b"Vary" | b"vary" => header::VARY,
        b"Allow" | b"allow" => header::ALLOW,
        b"Pragma" | b"pragma" => header::PRAGMA,
        b"Server" | b"server" => header::SERVER,
        b"Alt-Svc" | b"alt-svc" => header::ALT_SVC,
        b"Expires" | b"expires" => header::EXPIRES,
        b"Trailer" | b"trailer" => header::TRAILER,
        b"Upgrade" | b"upgrade" => header::UPGRADE,
        b"Location" | b"location" => header::LOCATION,
        b"Connection" | b"connection" => header::CONNECTION,
        b"Set-Cookie" | b"set-cookie" => header::SET_COOKIE,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Accept-Ranges" | b"accept-ranges" => header::ACCEPT_RANGES,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"Content-Range" | b"content-range" => header::CONTENT_RANGE,
        b"Last-Modified" | b"last-modified" => header::LAST_MODIFIED,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Referrer-Policy" | b"referrer-policy" => header::REFERRER_POLICY,
        b"X-Frame-Options" | b"x-frame-options" => header::X_FRAME_OPTIONS,
        b"Content-Encoding" | b"content-encoding" => header::CONTENT_ENCODING,
        b"Content-Language" | b"content-language" => header::CONTENT_LANGUAGE,
        b"Transfer-Encoding" | b"transfer-encoding" => header::TRANSFER_ENCODING,
        b"Content-Disposition" | b"content-disposition" => header::CONTENT_DISPOSITION,
        b"X-Content-Type-Options" | b"x-content-type-options" => header::X_CONTENT_TYPE_OPTIONS,
        b"Content-Security-Policy" | b"content-security-policy" => header::CONTENT_SECURITY_POLICY,
        b"Strict-Transport-Security" | b"strict-transport-security" => {
            header::STRICT_TRANSPORT_SECURITY
        }
        b"Access-Control-Allow-Origin" | b"access-control-allow-origin" => {
            header::ACCESS_CONTROL_ALLOW_ORIGIN
        }
        other => return HeaderName::from_bytes(other).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_what_it_would_be_anyhow() {
        let source = include_str!("names.rs");
        let known =
            source.lines().filter_map(|line| line.trim().strip_prefix("b\"")?.split_once('"'));
        let mut count = 0;
        for (name, _) in known {
            for spelling in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                let read = read(spelling.as_bytes()).expect("a name");
                assert_eq!(read.as_str(), name.to_lowercase());
            }
            count += 1;
        }
        assert!(count > 20, "{count}");
    }

    #[test]
    fn others_are_tokens() {
        assert_eq!(read(b"X-Other").expect("a name"), "x-other");
        for wrong in [&b""[..], b"a ", b" a", b"a:b", b"\xff", b"a\0"] {
            assert!(read(wrong).is_none(), "{}", wrong.escape_ascii());
        }
    }
}
