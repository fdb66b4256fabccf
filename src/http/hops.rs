//! What a message says of the proxies on its way: Via, and how far it may go (RFC 9110 §7.6).

use http::{HeaderMap, HeaderValue, Method, Version, header};

use super::fault::Fault;

/// Adds us to Via (§7.6.3: a gateway does so in every request that it forwards). `others`: there may be some in it.
pub fn via(headers: &mut HeaderMap, version: Version, others: bool) {
    let own = own_via(version);
    if !others || !headers.contains_key(header::VIA) {
        headers.insert(header::VIA, HeaderValue::from_static(own));
        return;
    }
    let mut list = Vec::new();
    for value in headers.get_all(header::VIA) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(own.as_bytes());
    // Values that were valid apart are valid together.
    if let Ok(list) = HeaderValue::from_bytes(&list) {
        headers.insert(header::VIA, list);
    }
}

/// What we say of ourselves in Via, of a request that came so.
pub(super) fn own_via(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0 tidegate",
        Version::HTTP_2 => "2.0 tidegate",
        Version::HTTP_3 => "3.0 tidegate",
        _ => "1.1 tidegate",
    }
}

/// Takes one off Max-Forwards, for the two methods that it means something to (§7.6.2). True: the request is
/// for us, as it may not go any further.
///
/// # Errors
/// It is not a number, or there twice.
pub fn is_last(method: &Method, headers: &mut HeaderMap) -> Result<bool, Fault> {
    if *method != Method::TRACE && *method != Method::OPTIONS {
        return Ok(false);
    }
    let mut values = headers.get_all(header::MAX_FORWARDS).iter();
    let Some(value) = values.next() else { return Ok(false) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.map(str::parse::<u64>), values.next()) {
        (Some(Ok(0)), None) => Ok(true),
        (Some(Ok(left)), None) => {
            headers.insert(header::MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(false)
        }
        _ => Err(Fault::BadRequest("Max-Forwards is not one number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_proxy_adds_itself() {
        let mut headers = HeaderMap::new();
        via(&mut headers, Version::HTTP_2, true);
        assert_eq!(headers["via"], "2.0 tidegate");
        headers.append(header::VIA, HeaderValue::from_static("1.0 other"));
        via(&mut headers, Version::HTTP_11, true);
        assert_eq!(headers["via"], "2.0 tidegate, 1.0 other, 1.1 tidegate");
        assert_eq!(headers.get_all("via").iter().count(), 1);
    }

    #[test]
    fn the_last_one_answers() {
        let left = |method: &Method, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::MAX_FORWARDS, HeaderValue::from_static(value));
            let last = is_last(method, &mut headers);
            (last.ok(), headers["max-forwards"].to_str().map(str::to_owned).ok())
        };
        assert_eq!(left(&Method::OPTIONS, "0"), (Some(true), Some("0".into())));
        assert_eq!(left(&Method::TRACE, "7"), (Some(false), Some("6".into())));
        assert_eq!(
            left(&Method::GET, "7"),
            (Some(false), Some("7".into())),
            "it means nothing here"
        );
        for wrong in ["", "-1", "x", "1,2", "99999999999999999999"] {
            assert_eq!(left(&Method::OPTIONS, wrong).0, None, "{wrong:?}");
        }
        assert_eq!(is_last(&Method::TRACE, &mut HeaderMap::new()).ok(), Some(false));
    }
}
