//! Header fields that an HTTP/2 codec lets through and that nobody may get: what is a question of framing in
//! HTTP/1, where [`crate::framing`] answers it, is one of fields here, and a backend that speaks HTTP/1
//! frames by them.

use http::{HeaderMap, HeaderValue, header};

use super::fault::Fault;

/// Looks at every field of an HTTP/2 request.
///
/// # Errors
/// What is wrong with it.
pub fn check(headers: &HeaderMap) -> Result<(), Fault> {
    let mut has_length = false;
    for (name, value) in headers {
        has_length |= name == header::CONTENT_LENGTH;
        if is_padded(value) {
            return Err(Fault::BadRequest("a header begins or ends with a blank"));
        }
        if matches!(name.as_str(), "content_length" | "transfer_encoding") {
            return Err(Fault::BadRequest("a framing header is spelt with an underscore"));
        }
    }
    if !has_length {
        return Ok(());
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    if lengths.next().is_some() {
        return Err(Fault::BadRequest("there is more than one Content-Length"));
    }
    if length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit) {
        return Err(Fault::BadRequest("the Content-Length is not a number"));
    }
    Ok(())
}

/// RFC 9113 §8.2.1
fn is_padded(value: &HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    blank(bytes.first()) || blank(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_of(fields: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        check(&headers).is_ok()
    }

    #[test]
    fn what_passes_and_what_does_not() {
        assert!(check_of(&[("x", "a b"), ("y", ""), ("content-length", "10")]));
        for wrong in [" a", "a ", "\ta", "a\t", " "] {
            assert!(!check_of(&[("x", wrong)]), "{wrong:?}");
        }
        for wrong in ["", "+1", "1,1", "0x1", "a"] {
            assert!(!check_of(&[("content-length", wrong)]), "{wrong:?}");
        }
        assert!(!check_of(&[("content-length", "1"), ("content-length", "1")]));
        assert!(!check_of(&[("content_length", "1")]) && !check_of(&[("transfer_encoding", "x")]));
    }
}
