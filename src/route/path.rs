//! The path that routes are matched against.
//!
//! One spelling per path, so that a route cannot be passed by writing the same path another
//! way. What goes to the backend is the request target as it came, unless the route rewrites
//! it; see [`super::rewrite`]. Empty segments (`//`) stay as they are.

use std::borrow::Cow;

/// Why a path is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%2F`: some servers take it for a separator, some do not.
    #[error("the path contains an escaped slash")]
    EscapedSlash,
    /// `%5C` or a plain backslash.
    #[error("the path contains a backslash")]
    Backslash,
    /// `%00`
    #[error("the path contains a NUL")]
    Nul,
    /// `%` without two hexadecimal digits after it.
    #[error("the path contains a broken escape")]
    BrokenEscape,
    /// Neither `/…` nor `*`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A rewrite made something that is not a request target.
    #[error("the rewritten path is not valid")]
    Rewritten,
}

/// The path (without query) with dot segments resolved (RFC 3986 §5.2.4), unreserved escapes
/// decoded, the other escapes in upper case (§6.2.2) and bytes outside ASCII escaped; borrowed
/// when there is nothing to do. `*` (`OPTIONS *`) stays as it is.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return if path == "*" { Ok(Cow::Borrowed(path)) } else { Err(PathError::NotAbsolute) };
    }
    // One pass that looks for what is rare: an escape, a backslash, a byte outside ASCII, or
    // a segment that begins with a dot.
    let mut previous = 0;
    for &byte in bytes {
        if RARE[byte as usize] || (byte == b'.' && previous == b'/') {
            return rewrite(bytes).map(Cow::Owned);
        }
        previous = byte;
    }
    Ok(Cow::Borrowed(path))
}

/// Bytes that [`rewrite`] has to look at.
const RARE: [bool; 256] = {
    let mut rare = [false; 256];
    let mut byte = 0x7f;
    while byte < 256 {
        rare[byte] = true;
        byte += 1;
    }
    rare[b'%' as usize] = true;
    rare[b'\\' as usize] = true;
    rare[0] = true;
    rare
};

/// Decodes first and resolves dot segments afterwards, as `%2e%2e` is one too.
fn rewrite(bytes: &[u8]) -> Result<String, PathError> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match *byte {
            b'%' => {
                let [high, low, tail @ ..] = tail else { return Err(PathError::BrokenEscape) };
                let value = hex(*high)? << 4 | hex(*low)?;
                rest = tail;
                match value {
                    b'/' => return Err(PathError::EscapedSlash),
                    b'\\' => return Err(PathError::Backslash),
                    0 => return Err(PathError::Nul),
                    _ if is_unreserved(value) => out.push(value as char),
                    _ => escape(value, &mut out),
                }
            }
            b'/' => {
                if out.is_empty() || !resolve_dots(&mut out) {
                    out.push('/');
                }
            }
            b'\\' => return Err(PathError::Backslash),
            0 => return Err(PathError::Nul),
            byte if byte >= 0x7f => escape(byte, &mut out),
            byte => out.push(byte as char),
        }
    }
    resolve_dots(&mut out);
    Ok(out)
}

/// If the last segment is `.` or `..`, takes it back; what is left then ends in a slash.
fn resolve_dots(out: &mut String) -> bool {
    let Some(slash) = out.rfind('/') else { return false };
    match &out[slash + 1..] {
        "." => out.truncate(slash + 1),
        ".." => {
            let parent = out[..slash].rfind('/').unwrap_or(0);
            out.truncate(parent + 1);
        }
        _ => return false,
    }
    true
}

/// RFC 3986 §2.3
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hex(digit: u8) -> Result<u8, PathError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(PathError::BrokenEscape),
    }
}

fn escape(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(DIGITS[usize::from(byte >> 4)] as char);
    out.push(DIGITS[usize::from(byte & 15)] as char);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_spelling_per_path() {
        for (path, expected) in [
            ("/", "/"),
            ("*", "*"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a/b.html", "/a/b.html"),
            ("/.", "/"),
            ("/./", "/"),
            ("/..", "/"),
            ("/../", "/"),
            ("/../../a", "/a"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../b", "/b"),
            ("/a/b/../../c", "/c"),
            ("/a/b/..", "/a/"),
            ("/a/...", "/a/..."),
            ("/a/.b", "/a/.b"),
            ("/a/..b/c", "/a/..b/c"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/..;/b", "/a/..;/b"),
            ("//", "//"),
            ("//a", "//a"),
            ("/a//b", "/a//b"),
            ("/a//../b", "/a/b"),
            ("//../a", "/a"),
            ("/%61dmin", "/admin"),
            ("/%2e%2e/admin", "/admin"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e", "/a/"),
            ("/%7Euser", "/~user"),
            ("/a%2db%5fc", "/a-b_c"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a%3fb", "/a%3Fb"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/%25", "/%25"),
            ("/a%0d%0ab", "/a%0D%0Ab"),
            ("/a:b@c!$&'()*+,;=", "/a:b@c!$&'()*+,;="),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_read_in_one_way_is_refused() {
        for (path, expected) in [
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("**", PathError::NotAbsolute),
            ("/a%2Fb", PathError::EscapedSlash),
            ("/a%2fb", PathError::EscapedSlash),
            ("/..%2fadmin", PathError::EscapedSlash),
            ("/a%5Cb", PathError::Backslash),
            ("/a%5cb", PathError::Backslash),
            ("/a\\b", PathError::Backslash),
            ("/a%00", PathError::Nul),
            ("/%", PathError::BrokenEscape),
            ("/%2", PathError::BrokenEscape),
            ("/%zz", PathError::BrokenEscape),
            ("/%+1", PathError::BrokenEscape),
        ] {
            assert_eq!(normalise(path), Err(expected), "{path}");
        }
    }

    #[test]
    fn ordinary_paths_are_borrowed() {
        for path in ["/", "/a/b.c/d?", "/a//b", "/static/app.min.js", "*"] {
            assert!(matches!(normalise(path), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    proptest! {
        #[test]
        fn twice_is_once(path in "/([a-c./~;]|%2[eE]|%6[1-3]|%2[05]|\u{e9}|%c3){0,24}") {
            let once = normalise(&path).expect("nothing in it is refused").into_owned();
            prop_assert_eq!(normalise(&once), Ok(Cow::Borrowed(once.as_str())));
        }

        #[test]
        fn no_dot_segment_is_left(path in "(/|/\\.|%2e|\\.|a){0,24}") {
            if let Ok(path) = normalise(&path) {
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
