//! Cookies of a request: finding one, and taking one away from those that are passed on.
//!
//! `Cookie` is pairs with `; ` between them (RFC 6265 §4.2.1); clients send it in one field, HTTP/2 ones in
//! several if they like (RFC 9113 §8.2.3). Nothing is decoded: what is not ours is passed on as it came.

use http::{HeaderMap, HeaderValue, header};
use smallvec::SmallVec;

/// The values of all cookies of a name, in their order.
pub fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    let fields = headers.get_all(header::COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
    pairs.filter_map(move |pair| value_of(pair, name))
}

/// Takes all cookies of a name away. The others stay as they are, byte for byte.
pub fn remove(headers: &mut HeaderMap, name: &str) {
    if values(headers, name).next().is_none() {
        return;
    }
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|field| without(field, name));
    let fields: SmallVec<[HeaderValue; 2]> = fields.collect();
    headers.remove(header::COOKIE);
    for field in fields {
        headers.append(header::COOKIE, field);
    }
}

/// A field without the pairs of this name; `None` if nothing is left.
fn without(field: &HeaderValue, name: &str) -> Option<HeaderValue> {
    let mut left = Vec::with_capacity(field.len());
    let pairs = field.as_bytes().split(|&byte| byte == b';');
    for pair in pairs.filter(|pair| value_of(pair, name).is_none()) {
        if left.is_empty() {
            left.extend_from_slice(pair.trim_ascii_start());
        } else {
            left.push(b';');
            left.extend_from_slice(pair);
        }
    }
    if left.is_empty() {
        return None;
    }
    // Parts of a valid value are one.
    HeaderValue::from_bytes(&left).ok()
}

/// The value of a pair of this name.
fn value_of<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let (found, value) = pair.trim_ascii().split_at_checked(name.len())?;
    if found != name.as_bytes() {
        return None;
    }
    value.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(fields: &[&'static str]) -> HeaderMap {
        let value = |field: &&'static str| (header::COOKIE, HeaderValue::from_static(field));
        fields.iter().map(value).collect()
    }

    #[test]
    fn only_its_own_cookie_is_taken_away() {
        for (fields, left) in [
            (&["tg=x"][..], &[][..]),
            (&["a=1; tg=x"], &["a=1"]),
            (&["tg=x; a=1;b=\"2, 3\" ; c"], &["a=1;b=\"2, 3\" ; c"]),
            (&["a=1; tg=x; b=2; tg=y"], &["a=1; b=2"]),
            (&["a=tg=1", "tg=x", "tgg=2;  x"], &["a=tg=1", "tgg=2;  x"]),
            (&["a=1;; b"], &["a=1;; b"]),
        ] {
            let mut map = headers(fields);
            remove(&mut map, "tg");
            let now: Vec<_> =
                map.get_all(header::COOKIE).iter().map(|f| f.to_str().unwrap_or("")).collect();
            assert_eq!(now, left, "{fields:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let map = headers(&["a=1; tg=x; tgg=2;tg=y", "tg=", "b=tg=3", "tg"]);
        assert_eq!(values(&map, "tg").collect::<Vec<_>>(), [&b"x"[..], b"y", b""]);
        assert_eq!(values(&map, "b").collect::<Vec<_>>(), [b"tg=3"]);
        assert_eq!(values(&map, "c").count(), 0);
    }
}
