//! Answers to what never became a request: there is no codec to write them for HTTP/1, and no exchange in any version.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::framing::Wrong;

use super::fault::Fault;
use super::respond::{self, Asked};

/// The answer to bytes that are no proper request.
pub fn wrong(wrong: Wrong) -> Vec<u8> {
    let mut answer = refusal(&Fault::BadRequest(wrong.text()));
    *answer.status_mut() = wrong.status();
    bytes(answer)
}

/// The answer to a head that does not get complete.
pub fn timed_out() -> Vec<u8> {
    bytes(refusal(&Fault::RequestTimeout))
}

/// An answer where nothing is known of a request, with the length of its body.
pub fn refusal(fault: &Fault) -> Response<Bytes> {
    let asked = Asked {
        method: &Method::GET,
        accept: None,
        request_id: "",
        grpc: false,
        retry_after: None,
    };
    let mut answer = respond::fault(fault, asked);
    let length = HeaderValue::from(answer.body().len());
    answer.headers_mut().insert(header::CONTENT_LENGTH, length);
    answer
}

/// HTTP/1.1, and the last answer on its connection.
fn bytes(mut answer: Response<Bytes>) -> Vec<u8> {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut out = Vec::new();
    head(answer.status(), answer.headers(), &mut out);
    out.extend_from_slice(answer.body());
    out
}

/// The head of an answer, as HTTP/1.1 has it.
pub fn head(status: StatusCode, headers: &HeaderMap, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_whole_answer() {
        let text = String::from_utf8(wrong(Wrong::Coding)).expect("plain text");
        assert!(text.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{text}");
        assert!(head.contains("\r\nconnection: close") && body.contains(Wrong::Coding.text()));
        assert!(head.contains("proxy-status: tidegate; error=http_request_error; details="));
    }
}
