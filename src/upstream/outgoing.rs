//! A request on its way to a backend.

use std::ops::{Deref, DerefMut};

use http::{HeaderName, HeaderValue, Request};

use super::body::RequestBody;

/// A request, and fields that were added to it and that nobody looks at any more: whole lines, as HTTP/1.1 writes them.
///
/// Six fields of every request are ours. As values of the map they cost 2,000 instructions, a tenth of a small
/// request: to be hashed, put in, walked over and dropped. As lines they are written twice.
#[derive(Debug)]
pub struct Outgoing {
    pub request: Request<RequestBody>,
    /// None of these names is in the request. Each line has its CR LF.
    lines: Vec<u8>,
}

impl Outgoing {
    /// `lines`: of fields under names that the request has not.
    pub fn new(request: Request<RequestBody>, lines: Vec<u8>) -> Self {
        Self { request, lines }
    }

    /// Behind those of the request.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The request with all its fields, for codecs that write them otherwise.
    pub fn whole(self) -> Request<RequestBody> {
        let Self { mut request, lines } = self;
        let headers = request.headers_mut();
        for line in lines.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or_default();
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let value = line[colon + 1..].trim_ascii_start();
            // They were a name and a value before.
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value))
            {
                headers.append(name, value);
            }
        }
        request
    }

    /// The same once more, without a body.
    pub fn copy(&self) -> Self {
        let mut copy = Request::new(RequestBody::empty());
        copy.method_mut().clone_from(self.method());
        copy.uri_mut().clone_from(self.uri());
        copy.headers_mut().clone_from(self.headers());
        Self { request: copy, lines: self.lines.clone() }
    }
}

impl From<Request<RequestBody>> for Outgoing {
    fn from(request: Request<RequestBody>) -> Self {
        Self::new(request, Vec::new())
    }
}

impl Deref for Outgoing {
    type Target = Request<RequestBody>;

    fn deref(&self) -> &Self::Target {
        &self.request
    }
}

impl DerefMut for Outgoing {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_fields() {
        let lines = b"via: 1.1 tidegate\r\nx-empty: \r\nx-host: a:1\r\nx-bytes: \xff b\r\n";
        let mut request = Request::new(RequestBody::empty());
        request.headers_mut().append("host", HeaderValue::from_static("a:1"));
        let outgoing = Outgoing::new(request, lines.to_vec());
        let fields = |request: &Request<RequestBody>| -> Vec<(String, Vec<u8>)> {
            let fields = request.headers().iter();
            fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
        };
        let copy = outgoing.copy();
        let whole = outgoing.whole();
        let expected: [(String, Vec<u8>); 5] = [
            ("host".into(), b"a:1".into()),
            ("via".into(), b"1.1 tidegate".into()),
            ("x-empty".into(), b"".into()),
            ("x-host".into(), b"a:1".into()),
            ("x-bytes".into(), b"\xff b".into()),
        ];
        assert_eq!(fields(&whole), expected);
        assert_eq!(fields(&copy.whole()), expected);
    }
}
