//! Where requests end, and what is refused: whole, in pieces, and one after another.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1024;

/// Scans as a stream does, `step` bytes at a time; what was passed on, and what was wrong.
fn scan(bytes: &[u8], step: usize) -> (Vec<u8>, Option<Wrong>) {
    let mut scanner = Scanner::new(LIMIT);
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        held.extend_from_slice(piece);
        match scanner.scan(&held) {
            Ok(good) => passed.extend(held.drain(..good)),
            Err((good, wrong)) => {
                passed.extend(held.drain(..good));
                assert!(scanner.is_wrong() && scanner.scan(b"GET") == Ok(0), "it stays wrong");
                return (passed, Some(wrong));
            }
        }
    }
    (passed, None)
}

#[test]
fn what_is_plain_passes_whole() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH:\t 5 \r\n\r\nhelloGET /2 HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n00A;a;b=c;d=\"e\\\"; \"\r\n0123456789\r\n0;x\r\nt: v\tw\r\nu:\r\n\r\n",
        "GET / HTTP/1.1\r\nX: Transfer-Encoding: gzip\r\nContent-Lengths: a\r\nX-Content-Length: b\r\n\r\n",
        // Neither is a framing header.
        "GET / HTTP/1.1\r\ncontent.length: a\r\nTransfer~Encoding: a\r\n\r\n",
    ] {
        for step in [1, 2, 7, 1000] {
            assert_eq!(scan(text.as_bytes(), step), (text.into(), None), "{text:?} by {step}");
        }
    }
}

#[test]
fn what_two_parsers_may_read_in_two_ways_is_wrong() {
    let post = |head: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n");
    let chunks =
        |body: &str| format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    let mut cases = vec![
        ("GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(), Wrong::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), Wrong::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), Wrong::BareLf),
        ("\nGET / HTTP/1.1\r\n\r\n".to_owned(), Wrong::BareLf),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_owned(), Wrong::RequestLine),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), Wrong::Version),
        ("GET / HTTP/1.2\r\n\r\n".to_owned(), Wrong::Version),
        ("GET / HTTP/1.1 \r\n\r\n".to_owned(), Wrong::RequestLine),
        ("GET / HTTP/1.x\r\n\r\n".to_owned(), Wrong::RequestLine),
        ("GET / http/1.1\r\n\r\n".to_owned(), Wrong::RequestLine),
        ("GET /#a HTTP/1.1\r\n\r\n".to_owned(), Wrong::Fragment),
        ("GET /\r\n\r\n".to_owned(), Wrong::RequestLine),
        ("PRI * HTTP/2.0\r\n\r\n".to_owned(), Wrong::Version),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), Wrong::OldCoding),
    ];
    for (head, wrong) in [
        ("Content-Length: 5\r\nContent-Length: 5", Wrong::Lengths),
        ("Content-Length: 5\r\nContent-Length: 6", Wrong::Lengths),
        ("Content-Length: 5, 5", Wrong::Length),
        ("Content-Length: +5", Wrong::Length),
        ("Content-Length: -5", Wrong::Length),
        ("Content-Length: 0x5", Wrong::Length),
        ("Content-Length: 5 5", Wrong::Length),
        ("Content-Length:", Wrong::Length),
        ("Content-Length: 5\u{b}", Wrong::Length),
        ("Content-Length: 99999999999999999999", Wrong::Length),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", Wrong::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", Wrong::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Wrong::Codings),
        ("Transfer-Encoding: chunked, chunked", Wrong::NotChunked),
        ("Transfer-Encoding: identity, chunked", Wrong::NotChunked),
        ("Transfer-Encoding: , chunked", Wrong::NotChunked),
        ("Transfer-Encoding: chunked,", Wrong::NotChunked),
        ("Transfer-Encoding: identity", Wrong::NotChunked),
        ("Transfer-Encoding: gzip", Wrong::NotChunked),
        ("Transfer-Encoding: chunked, gzip", Wrong::NotChunked),
        ("Transfer-Encoding:", Wrong::NotChunked),
        ("Transfer-Encoding: xchunked", Wrong::NotChunked),
        ("Transfer-Encoding: \u{b}chunked", Wrong::NotChunked),
        ("Transfer-Encoding: gzip, chunked", Wrong::Coding),
        ("Transfer_Encoding: chunked", Wrong::Lookalike),
        ("content_length: 5", Wrong::Lookalike),
    ] {
        cases.push((post(head), wrong));
    }
    for body in [
        "\r\n",
        "g\r\n",
        ";\r\n",
        "1;\r\nx",
        "1; a\r\n",
        "1 \r\nx",
        "1\t;a\r\n",
        "1\nx\r\n",
        "1\rx",
        "-1\r\n",
        "0x1\r\n",
        "1;a=\r\n",
        "1;a=\"\u{0}\"\r\n",
        "1;a=\"b\r\n",
        "1;\u{0}\r\n",
        "1;a b\r\n",
        "1\r\nxx\r\n",
        "1\r\nx\n",
        "1\r\nx0\r\n\r\n",
        "1000000000000000\r\n",
        "0\r\n \r\n",
        "0\r\na\r\n",
        "0\r\na b: c\r\n",
        "0\r\na: b\n",
        "0\r\na: \u{0}\r\n",
        "0\r\n\n",
        "0\r\n: a\r\n",
    ] {
        cases.push((chunks(body), Wrong::Chunk));
    }
    for (text, wrong) in cases {
        for step in [1, 3, 1000] {
            let (passed, why) = scan(text.as_bytes(), step);
            assert_eq!(why, Some(wrong), "{text:?} by {step}");
            let head = text.find("\r\n\r\n").map_or(0, |end| end + 4);
            match wrong {
                Wrong::Chunk => assert!(passed.len() >= head, "{text:?}"),
                _ => assert!(passed.is_empty(), "{text:?}: nothing of it is passed on"),
            }
        }
    }
}

#[test]
fn what_comes_before_the_wrong_is_passed_on() {
    let good = "POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nab";
    let text = format!("{good}GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n");
    assert_eq!(scan(text.as_bytes(), 1000), (good.into(), Some(Wrong::Length)));
}

#[test]
fn heads_and_lines_have_an_end() {
    let head = |n: usize| format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(n));
    let fits = head(LIMIT - head(0).len());
    assert_eq!(scan(fits.as_bytes(), 1), (fits.clone().into(), None));
    let over = head(LIMIT + 1 - head(0).len());
    assert_eq!(scan(over.as_bytes(), 1).1, Some(Wrong::HeadTooLarge));
    assert_eq!(scan(over.as_bytes(), 5000).1, Some(Wrong::HeadTooLarge));
    assert_eq!(scan("G".repeat(LIMIT + 1).as_bytes(), 1).1, Some(Wrong::UriTooLong));
    let extension = format!(
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{}",
        "1;abcdefgh\r\nx\r\n".repeat(2000)
    );
    assert_eq!(scan(extension.as_bytes(), 1000).1, Some(Wrong::Chunk), "extensions without end");
}

#[test]
fn what_follows_an_upgrade_waits_for_the_answer() {
    let ask = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    let frame = b"\x81\x05hello";
    let mut scanner = Scanner::new(LIMIT);
    assert_eq!(scanner.scan(&[&ask[..], frame].concat()), Ok(ask.len()));
    assert!(scanner.is_asked() && scanner.scan(frame) == Ok(0));
    // Refused: then it has to be a request, and is none.
    scanner.stays();
    assert_eq!(scanner.scan(frame), Ok(0), "no line yet");
    assert_eq!(scanner.scan(b"\x81\x05hello\r\n"), Err((0, Wrong::RequestLine)));
    // Its own body belongs to it.
    let ask = b"POST / HTTP/1.1\r\nUpgrade: x\r\ncontent-length: 2\r\n\r\nab";
    let mut scanner = Scanner::new(LIMIT);
    assert_eq!(scanner.scan(&[&ask[..], frame].concat()), Ok(ask.len()));
    assert!(scanner.is_asked());
}

proptest! {
    /// However a stream is cut, the same is passed on.
    #[test]
    fn pieces_do_not_matter(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "GET / HTTP/1.1\r\n", "Host: a\r\n", "\r\n", "Content-Length: 3\r\n", "abc", "\n", "0\r\n",
                "Transfer-Encoding: chunked\r\n", "3\r\n", ";a=b\r\n", "POST /x HTTP/1.0\r\n", ": ", "a",
            ]),
            0..24,
        ),
        step in 1_usize..40,
    ) {
        let text = parts.concat();
        prop_assert_eq!(scan(text.as_bytes(), step), scan(text.as_bytes(), text.len()));
    }
}
