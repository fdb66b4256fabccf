//! Answers to what never became a request: written by hand, as no codec is there to do it.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};

use crate::framing::Wrong;

use super::fault::Fault;
use super::respond::{self, Asked};

/// The answer to bytes that are no proper request.
pub fn wrong(wrong: Wrong) -> Vec<u8> {
    let asked = Asked {
        method: &Method::GET,
        accept: None,
        request_id: "",
        grpc: false,
        retry_after: None,
    };
    let mut answer = respond::fault(&Fault::BadRequest(wrong.text()), asked);
    *answer.status_mut() = wrong.status();
    bytes(answer)
}

/// The answer to a head that does not get complete.
pub fn timed_out() -> Vec<u8> {
    let asked = Asked {
        method: &Method::GET,
        accept: None,
        request_id: "",
        grpc: false,
        retry_after: None,
    };
    bytes(respond::fault(&Fault::RequestTimeout, asked))
}

/// HTTP/1.1, and the last answer on its connection.
fn bytes(mut answer: Response<Bytes>) -> Vec<u8> {
    let length = HeaderValue::from(answer.body().len());
    answer.headers_mut().insert(header::CONTENT_LENGTH, length);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut out = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
    for (name, value) in answer.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(answer.body());
    out
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
