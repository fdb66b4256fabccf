use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Request, StatusCode};

use crate::framing::{Body, Rest};
use crate::upstream::body::RequestBody;

use super::head::{Head, Reader};
use super::output::{self, Output};

fn read(text: &str) -> Result<Option<Head>, &'static str> {
    Reader::default().read(&mut BytesMut::from(text))
}

#[track_caller]
fn rest(text: &str) -> Rest {
    read(text).expect("it is right").expect("it is whole").rest
}

#[test]
fn framing_is_what_the_fields_say() {
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
    assert_eq!(rest(length), Rest::Body(Body::Length(3)));
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n";
    assert_eq!(rest(chunked), Rest::Body(Body::Chunked));
    assert_eq!(rest("HTTP/1.0 200 OK\r\n\r\n"), Rest::UntilClose);
    assert_eq!(rest("HTTP/1.1 204 No Content\r\n\r\n"), Rest::Body(Body::None));
}

#[test]
fn a_head_is_taken_off_once_it_is_whole_however_it_comes() {
    let text =
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\na: 1\r\na: 2\r\n\r\nbody";
    let mut reader = Reader::default();
    let mut bytes = BytesMut::new();
    let mut heads = Vec::new();
    for byte in text.bytes() {
        bytes.extend_from_slice(&[byte]);
        if heads.is_empty() {
            heads.extend(reader.read(&mut bytes).expect("it is right"));
        }
    }
    let values: Vec<_> = reader.fields.get_all("a").iter().collect();
    assert_eq!(values, ["1", "2"]);
    assert!(!reader.fields.contains_key("link"));
    assert_eq!(heads.pop().expect("it is whole").status, StatusCode::OK);
    assert_eq!(bytes, "body");
}

#[test]
fn what_two_readers_may_take_differently_is_refused() {
    for (fields, why) in [
        ("content-length: 1\r\ncontent-length: 1", "more than one Content-Length"),
        ("content-length: 1, 1", "Content-Length is not a number"),
        ("content-length: +1", "Content-Length is not a number"),
        ("content-length:", "Content-Length is not a number"),
        ("content-length: 1\r\ntransfer-encoding: chunked", "Content-Length and Transfer-Encoding"),
        ("transfer-encoding: gzip, chunked", "transfer coding"),
        ("transfer-encoding: identity", "Transfer-Encoding"),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "more than one Transfer-Enc"),
        ("transfer_encoding: chunked", "underscore"),
        ("a: 1\nb: 2", "without CR"),
        ("a: 1\r\n b", "no token"),
        ("a : 1", "no token"),
        ("a: \0", "control characters"),
        ("a: 1\r2", "control characters"),
        ("a", "no token"),
    ] {
        let error = read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")).expect_err(fields);
        assert!(error.contains(why), "{fields:?}: {error}");
    }
    for (text, why) in [
        ("HTTP/2 200 OK\r\n\r\n", "status line"),
        ("SSH-2.0", "status line"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "status line"),
        ("HTTP/1.2 200 OK\r\n\r\n", "status line"),
        ("HTTP/1.1 20 OK\r\n\r\n", "status line"),
        ("HTTP/1.1 099 OK\r\n\r\n", "status line"),
        ("HTTP/1.1 101 Switching\r\n\r\n", "unasked"),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/1.0"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(why), "{text:?}: {error}");
    }
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(101);
    assert!(read(&flood).expect_err("too many").contains("informational"));
    let large = format!("HTTP/1.1 200 OK\r\na: {}", "a".repeat(65 * 1024));
    assert!(read(&large).expect_err("too large").contains("too large"));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: 1\r\n".repeat(101));
    assert!(read(&many).expect_err("too many").contains("100 fields"));
}

#[test]
fn what_is_said_of_the_connection_alone_stays_with_it() {
    for (version, said, last, kept) in [
        ("1.1", "", false, None),
        ("1.1", "connection: keep-alive\r\n", false, None),
        ("1.1", "Connection: Keep-Alive , close\r\n", true, None),
        ("1.1", "connection: keep-alive\r\nconnection:\tclose\r\n", true, None),
        ("1.1", "connection: close, x\r\n", true, Some("close, x")),
        ("1.1", "connection: upgrade\r\n", false, Some("upgrade")),
        ("1.0", "", true, None),
        ("1.0", "connection: x\r\n", true, Some("x")),
        ("1.0", "connection: keep-alive\r\n", false, None),
        ("1.0", "connection: keep-alive\r\nconnection: close\r\n", true, None),
    ] {
        let mut reader = Reader::default();
        let text = format!("HTTP/{version} 200 OK\r\n{said}content-length: 0\r\n\r\n");
        reader.read(&mut BytesMut::from(&*text)).expect(&text).expect(&text);
        assert_eq!(reader.last, last, "{text}");
        let connection = reader.fields.get("connection");
        assert_eq!(connection.map(|value| value.to_str().expect("text")), kept, "{text}");
    }
    for wrong in ["close\x0c", "\0", "keep-alive\r"] {
        let text = format!("HTTP/1.1 200 OK\r\nconnection: {wrong}\r\n\r\n");
        assert!(read(&text).expect_err(wrong).contains("control characters"), "{wrong:?}");
    }
}

#[test]
fn half_a_head_is_none_yet() {
    for text in ["", "HT", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\na: 1\r\n\r"] {
        assert!(read(text).expect("nothing is wrong yet").is_none(), "{text:?}");
    }
}

/// What would be sent.
fn written(output: &Output) -> String {
    String::from_utf8_lossy(&output.waiting()).into_owned()
}

#[test]
fn a_request_is_framed_by_its_length_or_in_chunks() {
    let request = || {
        let mut request = Request::new(RequestBody::empty());
        *request.uri_mut() = "http://elsewhere/a?b".parse().expect("a target");
        request.headers_mut().insert("transfer-encoding", HeaderValue::from_static("chunked"));
        request.headers_mut().insert("host", HeaderValue::from_static("x"));
        request
    };
    let mut output = Output::default();
    output.begin(&request().into(), None, true);
    assert_eq!(written(&output), "GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n");
    output.begin(&request().into(), Some(output::Framing::Chunked), true);
    output.data("x".repeat(26).into(), output::Framing::Chunked, false);
    let head = "GET /a?b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(written(&output), format!("{head}1a\r\n{}\r\n", "x".repeat(26)));
    output.begin(&request().into(), Some(output::Framing::Chunked), true);
    output.data("x".into(), output::Framing::Chunked, true);
    assert_eq!(written(&output), format!("{head}1\r\nx\r\n0\r\n\r\n"));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("content-length", HeaderValue::from_static("9"));
    output.begin(&request().into(), Some(output::Framing::Chunked), true);
    output.end(Some(&trailers));
    assert_eq!(written(&output), format!("{head}0\r\ngrpc-status: 0\r\n\r\n"));
}
