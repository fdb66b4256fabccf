//! Cookies of a request: finding one, and taking one away from those that are passed on.
//!
//! `Cookie` is pairs with `; ` between them (RFC 6265 §4.2.1); clients send it in one field, HTTP/2 ones in
//! several if they like (RFC 9113 §8.2.3). Nothing is decoded: what is not ours is passed on as it came.

use http::{HeaderMap, header};

/// The values of all cookies of a name, in their order.
pub fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    let fields = headers.get_all(header::COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
    pairs.filter_map(move |pair| value_of(pair, name))
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
    fn a_cookie_is_found_by_its_whole_name() {
        let map = headers(&["a=1; tg=x; tgg=2;tg=y", "tg=", "b=tg=3", "tg"]);
        assert_eq!(values(&map, "tg").collect::<Vec<_>>(), [&b"x"[..], b"y", b""]);
        assert_eq!(values(&map, "b").collect::<Vec<_>>(), [b"tg=3"]);
        assert_eq!(values(&map, "c").count(), 0);
    }
}
