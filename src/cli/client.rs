//! A small client of a running tidegate's admin API, and errors that help a person.
//!
//! Plain blocking HTTP/1.0: one request a connection, and no answer can be chunked. The
//! commands need no more, and start in a millisecond.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::target::Target;
use crate::admin::problem::Document;
use crate::tls::trust::Trust;

/// Most bytes of an answer; a thousand services with a thousand backends fit.
const MAX_ANSWER: u64 = 1 << 30;
/// Most bytes of one line of a stream of events.
const MAX_LINE: u64 = 1 << 20;
/// What is escaped in a path segment: all but the unreserved (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `--admin`, `--token` and `--ca`, for commands that talk to a running tidegate.
#[derive(Debug, Clone, clap::Args)]
pub struct AdminArgs {
    /// Where its admin listens: http://HOST:PORT, https://HOST:PORT or unix:/PATH
    #[arg(
        long,
        env = "TIDEGATE_ADMIN",
        value_name = "URL",
        default_value = "http://127.0.0.1:9900"
    )]
    pub admin: String,
    /// Sent as a bearer token
    #[arg(long, env = "TIDEGATE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// PEM file with the certificates to believe instead of the system's, for https://
    #[arg(long, env = "TIDEGATE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Where and as whom to ask.
#[derive(Debug, Clone)]
pub struct Client {
    target: Target,
    /// As it was given, for messages.
    url: String,
    token: Option<String>,
    trust: Trust,
}

/// Why a command failed; [`Failure::exit`] tells it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was called wrongly.
    #[error("{0}")]
    Usage(String),
    #[error("no tidegate answers at {url} ({reason}); is it running? --admin URL says where")]
    Unreachable { url: String, reason: String },
    #[error("what answers at {url} is not a tidegate: {reason}")]
    Foreign { url: String, reason: String },
    /// It answered and refused.
    #[error("{}", .0.detail)]
    Refused(Document),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// What a stream of events says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// It is open: what happens from now on is heard of.
    Open,
    /// The data of one event.
    Data(&'a str),
}

impl Client {
    /// # Errors
    /// The URL or the token is not one.
    pub fn new(args: &AdminArgs) -> Result<Self, Failure> {
        let visible =
            |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        if args.token.as_deref().is_some_and(|token| !visible(token)) {
            return Err(Failure::Usage("a token holds visible ASCII characters only".into()));
        }
        Ok(Self {
            target: args.admin.parse().map_err(Failure::Usage)?,
            url: args.admin.clone(),
            token: args.token.clone(),
            trust: args.ca.clone().map_or(Trust::System, Trust::File),
        })
    }

    /// # Errors
    /// Whatever kept the document from coming.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.change(Method::GET, path, None)
    }

    /// Asks for a change whose answer is a document.
    ///
    /// # Errors
    /// Whatever kept the change from happening.
    pub fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, Failure> {
        let answer = self.send(&method, path, body)?;
        serde_json::from_slice(&answer).map_err(|error| self.foreign(&error.to_string()))
    }

    /// Asks for a change whose answer is only that it is done.
    ///
    /// # Errors
    /// Whatever kept the change from happening.
    pub fn order(&self, method: Method, path: &str) -> Result<(), Failure> {
        self.send(&method, path, None).map(drop)
    }

    /// Gives `data` each event of a stream of server-sent events, until the stream ends.
    ///
    /// # Errors
    /// The stream could not be opened, or broke.
    pub fn follow(&self, path: &str, mut data: impl FnMut(Heard<'_>)) -> Result<(), Failure> {
        let request = self.head(&Method::GET, path, 0).replace("application/json", "*/*");
        let asked = self.target.connect(&self.trust).and_then(|mut stream| {
            stream.write_all(request.as_bytes())?;
            Ok(stream)
        });
        let stream = asked.map_err(|error| self.unreachable(&error))?;
        let mut lines = BufReader::new(stream);
        let mut status = String::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line);
            if read.map_err(|error| self.unreachable(&error))? == 0 {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&line);
            if status.is_empty() {
                status = text.trim_end().to_owned();
                if status.split(' ').nth(1) != Some("200") {
                    return Err(self.foreign(&format!("it answers {status:?} to {path}")));
                }
            } else if text.starts_with(':') {
                data(Heard::Open);
            } else if let Some(event) = text.strip_prefix("data:") {
                data(Heard::Data(event.trim()));
            }
        }
    }

    /// The body of a good answer.
    fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Vec<u8>, Failure> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = self.head(method, path, body.len()) + &body;
        match self.target.connect(&self.trust).and_then(|stream| exchange(stream, &request)) {
            Ok(answer) => self.judge(&answer),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    fn head(&self, method: &Method, path: &str, length: usize) -> String {
        let host = match &self.target {
            Target::Tcp(address) | Target::Tls(address) => address,
            Target::Unix(_) => "localhost",
        };
        let token = self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
        format!(
            "{method} {path} HTTP/1.0\r\nhost: {host}\r\naccept: application/json\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n{}\r\n",
            token.unwrap_or_default()
        )
    }

    fn judge(&self, answer: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let length = match head.parse(answer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Err(self.foreign("it hangs up too early")),
            Err(error) => return Err(self.foreign(&error.to_string())),
        };
        let body = &answer[length..];
        let promised = head.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
        let promised = promised.and_then(|h| std::str::from_utf8(h.value).ok()?.parse().ok());
        if promised.is_some_and(|promised: usize| promised != body.len()) {
            return Err(self.foreign("its answer is cut short"));
        }
        match head.code {
            Some(200..=299) => Ok(body.to_vec()),
            code => Err(match serde_json::from_slice(body) {
                Ok(document) => Failure::Refused(document),
                Err(_) => self.foreign(&format!("it answers with status {}", code.unwrap_or(0))),
            }),
        }
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        Failure::Unreachable { url: self.url.clone(), reason: reason(error) }
    }

    fn foreign(&self, reason: &str) -> Failure {
        Failure::Foreign { url: self.url.clone(), reason: reason.into() }
    }
}

impl Failure {
    /// Tells the person and gives the exit code: 1, or 2 for bad usage.
    pub fn exit(&self) -> ExitCode {
        eprintln!("tidegate: {self}");
        if let Self::Refused(Document { problems: Some(problems), .. }) = self {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
        }
        match self {
            Self::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Prints what a command has to say, or why it failed. A reader that went away is no failure.
pub fn finish(said: Result<String, Failure>) -> ExitCode {
    match said.and_then(|text| Ok(io::stdout().lock().write_all(text.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => failure.exit(),
    }
}

/// `/v1/services/NAME` and what follows.
pub fn service_path(service: &str, rest: &str) -> String {
    format!("/v1/services/{}{rest}", segment(service))
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(name, SEGMENT)
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Without the number of the operating system.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::NotFound => "no such socket".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::InvalidData => {
            format!("{error}; --ca FILE says whose certificates to believe")
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "it does not answer in time".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(admin: &str, token: Option<&str>) -> Result<Client, Failure> {
        Client::new(&AdminArgs { admin: admin.into(), token: token.map(Into::into), ca: None })
    }

    #[test]
    fn a_token_cannot_smuggle_a_header() {
        let head = client("http://h:1", Some("s3cret")).unwrap().head(&Method::GET, "/", 0);
        assert!(head.contains("\r\nauthorization: Bearer s3cret\r\n"), "{head}");
        assert!(matches!(client("http://h:1", Some("a\r\nb: c")), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(service_path("a/b c", "/scaling"), "/v1/services/a%2Fb%20c/scaling");
    }

    #[test]
    fn nobody_there_is_told_with_where_and_what_to_do() {
        // Bound and dropped: nobody listens there.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let says = |url: &str| {
            let failure = client(url, None).unwrap().order(Method::POST, "/").unwrap_err();
            failure.to_string()
        };
        assert_eq!(
            says(&format!("http://{address}")),
            format!(
                "no tidegate answers at http://{address} (connection refused); \
                 is it running? --admin URL says where"
            )
        );
        assert_eq!(
            says("unix:/nowhere/a.sock"),
            "no tidegate answers at unix:/nowhere/a.sock (no such socket); \
             is it running? --admin URL says where"
        );
    }

    #[test]
    fn answers_that_are_not_tidegates_are_told_apart() {
        let judge = |answer: &str| client("http://h:1", None).unwrap().judge(answer.as_bytes());
        let says = |answer: &str| judge(answer).unwrap_err().to_string();
        assert_eq!(judge("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap(), b"ok");
        assert!(says("SSH-2.0-OpenSSH\r\n").contains("is not a tidegate"));
        assert!(says("HTTP/1.1 200 OK\r\n").contains("too early"));
        assert!(says("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok").contains("cut short"));
        assert!(says("HTTP/1.1 502 Bad Gateway\r\n\r\n<html>").contains("status 502"));
    }
}
