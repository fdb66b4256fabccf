//! Fields of answers: entries of the static table where there is one, else as they are.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, StatusCode};

use super::table::{ENTRIES, STATUS, named};

/// The fields of an answer.
pub fn answer(status: StatusCode, headers: &HeaderMap, out: &mut BytesMut) {
    out.put_slice(&[0, 0]);
    match of_status(status) {
        Some(index) => put_integer(0b1100_0000, 6, index, out),
        None => {
            put_integer(0b0101_0000, 4, STATUS, out);
            put_text(status.as_str().as_bytes(), out);
        }
    }
    put_fields(headers, out);
}

/// The fields after a body.
pub fn trailers(headers: &HeaderMap, out: &mut BytesMut) {
    out.put_slice(&[0, 0]);
    put_fields(headers, out);
}

fn of_status(status: StatusCode) -> Option<usize> {
    Some(match status.as_u16() {
        200 => 25,
        304 => 26,
        404 => 27,
        503 => 28,
        103 => 24,
        100 => 63,
        204 => 64,
        206 => 65,
        302 => 66,
        400 => 67,
        403 => 68,
        421 => 69,
        425 => 70,
        500 => 71,
        _ => return None,
    })
}

fn put_fields(headers: &HeaderMap, out: &mut BytesMut) {
    for (name, value) in headers {
        match named(name.as_str()) {
            Some((first, last)) => {
                let same = |index: &usize| ENTRIES[*index].1.as_bytes() == value.as_bytes();
                match (first..=last).find(same) {
                    Some(index) => put_integer(0b1100_0000, 6, index, out),
                    None => {
                        put_integer(0b0101_0000, 4, first, out);
                        put_text(value.as_bytes(), out);
                    }
                }
            }
            None => literal(name.as_str().as_bytes(), value.as_bytes(), out),
        }
    }
}

/// A field with its name, both as they are.
pub fn literal(name: &[u8], value: &[u8], out: &mut BytesMut) {
    put_integer(0b0010_0000, 3, name.len(), out);
    out.put_slice(name);
    put_text(value, out);
}

fn put_text(text: &[u8], out: &mut BytesMut) {
    put_integer(0, 7, text.len(), out);
    out.put_slice(text);
}

/// RFC 7541 §5.1
fn put_integer(flags: u8, prefix: u32, value: usize, out: &mut BytesMut) {
    let most = usize::from(u8::MAX >> (8 - prefix));
    if value < most {
        return out.put_u8(flags | value as u8);
    }
    out.put_u8(flags | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.put_u8(0x80 | rest as u8);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::http3::qpack::section;

    fn again(bytes: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        section(bytes, usize::MAX, |name, value| {
            fields.push((text(name), text(value)));
            Ok(())
        })
        .expect("what we write can be read");
        fields
    }

    #[test]
    fn every_status_is_read_as_it_was() {
        for status in 100..1000 {
            let status = StatusCode::from_u16(status).expect("three digits");
            let mut out = BytesMut::new();
            answer(status, &HeaderMap::new(), &mut out);
            assert_eq!(again(&out), [(":status".to_owned(), status.as_str().to_owned())]);
        }
    }

    #[test]
    fn fields_are_read_as_they_were() {
        let mut headers = HeaderMap::new();
        let long = "l".repeat(70_000);
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-type", "text/plain; charset=x"),
            ("vary", "origin"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
            ("x-a-name-that-is-in-no-table-at-all", ""),
            ("x-long", &long),
        ] {
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let mut out = BytesMut::new();
        trailers(&headers, &mut out);
        let expected: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
            .collect();
        assert_eq!(again(&out), expected);
        let mut small = BytesMut::new();
        headers.retain_first("content-type");
        trailers(&headers, &mut small);
        assert_eq!(&small[..], [0, 0, 0xc0 | 53], "an entry takes a byte");
    }

    trait RetainFirst {
        fn retain_first(&mut self, name: &'static str);
    }

    impl RetainFirst for HeaderMap {
        fn retain_first(&mut self, name: &'static str) {
            let first = self.get(name).cloned().expect("it is there");
            self.clear();
            self.insert(name, first);
        }
    }
}
