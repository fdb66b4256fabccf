//! A plain blocking HTTP/1.1 client: what was sent and what came back, nothing hidden.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;

/// A complete answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Statuses of the 1xx that came before.
    pub informational: Vec<u16>,
}

impl Answer {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }
}

/// GET of `http://IP:PORT/path` on a connection of its own.
#[track_caller]
pub fn get(url: &str) -> Answer {
    send("GET", url, &[], b"").unwrap_or_else(|error| panic!("GET {url}: {error}"))
}

/// One request on a connection of its own, which is closed afterwards.
///
/// # Errors
/// No connection, or no complete answer.
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    let (authority, path) = split(url);
    let mut stream = connect(authority.parse().map_err(|_| io::ErrorKind::InvalidInput)?)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    let given = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    if !given("host") {
        head += &format!("host: {authority}\r\n");
    }
    if !body.is_empty() && !given("content-length") {
        head += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    // A server may answer, and close, before it has read a body.
    let written = stream.write_all(body);
    let answer = read_answer(&mut BufReader::new(&stream), method == "HEAD");
    answer.or_else(|error| written.and(Err(error)))
}

/// A connection on which no read or write waits for more than a minute.
///
/// # Errors
/// As connecting.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one answer with its body. `head`: it answers a HEAD request and has none.
///
/// # Errors
/// The connection ended or was cut within it (`UnexpectedEof`), or it is not HTTP/1.1.
pub fn read_answer(stream: &mut impl BufRead, head: bool) -> io::Result<Answer> {
    let mut informational = Vec::new();
    let (status, headers) = loop {
        let line = read_line(stream)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        let status = status.ok_or_else(|| bad(&line))?;
        let headers = read_headers(stream)?;
        if status / 100 != 1 || status == 101 {
            break (status, headers);
        }
        informational.push(status);
    };
    let mut answer = Answer { status, headers, body: vec![], trailers: vec![], informational };
    if head || matches!(status, 101 | 204 | 304) {
        return Ok(answer);
    }
    if answer.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        loop {
            let line = read_line(stream)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| bad(&line))?;
            if size == 0 {
                answer.trailers = read_headers(stream)?;
                return Ok(answer);
            }
            read_exactly(stream, size, &mut answer.body)?;
            read_line(stream)?;
        }
    }
    match answer.header("content-length") {
        Some(length) => {
            let length = length.parse().map_err(|_| bad(length))?;
            read_exactly(stream, length, &mut answer.body)?;
        }
        None => {
            stream.read_to_end(&mut answer.body)?;
        }
    }
    Ok(answer)
}

fn read_headers(stream: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_exactly(stream: &mut impl BufRead, bytes: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = stream.take(bytes).read_to_end(body)?;
    if read as u64 == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP/1.1: {what}"))
}

fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").expect("this client speaks http:// only");
    match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    }
}
