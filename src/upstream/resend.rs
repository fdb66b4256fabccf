//! Making a request again from its head as it was sent: only retries pay for it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::body::RequestBody;

/// The head of a request as HTTP/1.1 writes it, for connections that have no such thing.
pub fn head(request: &Request<RequestBody>) -> Vec<u8> {
    let mut head = Vec::with_capacity(1024);
    head.extend_from_slice(request.method().as_str().as_bytes());
    head.push(b' ');
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    head.extend_from_slice(target.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Parses what our own codec wrote, so failure means that the head was not kept whole.
pub fn request(head: &[u8], body: RequestBody) -> Option<Request<RequestBody>> {
    let mut fields = vec![httparse::EMPTY_HEADER; head.iter().filter(|b| **b == b'\n').count()];
    let mut parsed = httparse::Request::new(&mut fields);
    if !parsed.parse(head).ok()?.is_complete() {
        return None;
    }
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    *request.uri_mut() = parsed.path?.parse::<Uri>().ok()?;
    *request.version_mut() = Version::HTTP_11;
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    *request.headers_mut() = headers;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_as_it_was() {
        let head = b"PUT /a?b=c HTTP/1.1\r\nhost: x\r\nx-a: 1\r\nx-a: 2\r\n\
            content-length: 3\r\nx-bytes: \xff\r\n\r\n";
        let request = request(head, RequestBody::empty()).expect("parses");
        assert_eq!(request.method(), Method::PUT);
        assert_eq!(request.uri(), "/a?b=c");
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(request.headers()["x-bytes"].as_bytes(), b"\xff");
        assert_eq!(request.headers()["content-length"], "3");
    }

    #[test]
    fn what_was_written_is_read() {
        let head = b"PUT /a?b=c HTTP/1.1\r\nhost: x\r\nx-a: 1\r\nx-bytes: \xff\r\n\r\n";
        let again = request(head, RequestBody::empty()).expect("parses");
        assert_eq!(super::head(&again), head);
    }

    #[test]
    fn half_a_head_is_none() {
        assert!(request(b"PUT / HTTP/1.1\r\nhost: x\r\n", RequestBody::empty()).is_none());
    }
}
