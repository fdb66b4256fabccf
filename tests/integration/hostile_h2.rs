//! Connections, frames and heads of HTTP/2 that are wrong or odd, with and without TLS: what the client
//! gets, and what a backend may have seen. The table is hostile_h2.txt.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::frames::{self, Frames, frame, literal};
use crate::support::{Proxy, RawOrigin, Step, certificate};

use super::hostile::{seen, unescape};

/// A request that shows that the connection is still good, or that it is not.
const PROBE: u32 = 1001;

struct Case {
    line: usize,
    wanted: Wanted,
    /// `None`: it depends on how fast the rest came; nobody answers it.
    reaches: Option<bool>,
    steps: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// By stream, a status or the code that it is reset with. The connection goes on.
    Streams(BTreeMap<u32, String>),
    /// The connection is ended, with this code.
    Goaway(String),
}

fn cases() -> Vec<Case> {
    let lines = include_str!("hostile_h2.txt").lines().enumerate();
    let cases = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    cases.map(|(index, line)| case(index + 1, line)).collect()
}

fn case(line: usize, text: &str) -> Case {
    let mut words = text.splitn(3, ' ');
    let wanted = words.next().unwrap();
    let wanted = match wanted.strip_prefix("GOAWAY=") {
        Some(code) => Wanted::Goaway(code.to_owned()),
        None => Wanted::Streams(
            wanted
                .split(',')
                .map(|one| one.split_once('=').unwrap_or(("1", one)))
                .map(|(stream, end)| (stream.parse().unwrap(), end.to_owned()))
                .collect(),
        ),
    };
    let reaches = match words.next() {
        Some("yes") => Some(true),
        Some("no") => Some(false),
        Some("may") => None,
        other => panic!("line {line}: {other:?}"),
    };
    let steps = words.next().unwrap().split(" | ").map(str::to_owned).collect();
    Case { line, wanted, reaches, steps }
}

/// What a field of a request is made of: `name=value`.
fn block(fields: &[&str]) -> Vec<u8> {
    let field = |text: &&str| {
        let at = text.find('=').unwrap_or_else(|| panic!("no field: {text}"));
        literal(&unescape(&text[..at]), &unescape(&text[at + 1..]))
    };
    fields.iter().flat_map(field).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'_').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The bytes of one step; see the head of the table.
fn bytes(step: &str, names: &Names) -> Vec<u8> {
    let step = step.replace("{n}", &names.path).replace("{s}", names.scheme);
    let step = step.replace("{k}", &"a".repeat(1000));
    let mut words = step.split_whitespace();
    let kind = words.next().unwrap();
    let rest: Vec<&str> = words.collect();
    let stream = || rest[0].parse::<u32>().unwrap();
    let usual = |method: &str| {
        let method = format!(":method={method}");
        let scheme = format!(":scheme={}", names.scheme);
        let path = format!(":path=/{}", names.path);
        let usual = [&method[..], &scheme, ":authority=a", &path];
        block(&[&usual[..], &rest[1..]].concat())
    };
    let (stop, whole) = (frames::END_STREAM, frames::END_HEADERS);
    match kind {
        "get" => frame(frames::HEADERS, stop | whole, stream(), &usual("GET")),
        "post" => frame(frames::HEADERS, whole, stream(), &usual("POST")),
        "get-part" => frame(frames::HEADERS, stop, stream(), &usual("GET")),
        "req" => frame(frames::HEADERS, stop | whole, stream(), &block(&rest[1..])),
        "open" => frame(frames::HEADERS, whole, stream(), &block(&rest[1..])),
        "part" => frame(frames::CONTINUATION, 0, stream(), &block(&rest[1..])),
        "rest" => frame(frames::CONTINUATION, whole, stream(), &block(&rest[1..])),
        "data" => frame(frames::DATA, 0, stream(), rest.get(1).unwrap_or(&"").as_bytes()),
        "end" => frame(frames::DATA, stop, stream(), rest.get(1).unwrap_or(&"").as_bytes()),
        // TYPE FLAGS STREAM PAYLOAD, in hexadecimal but the stream.
        "frame" => {
            let payload = rest.get(3).map(|text| hex(text)).unwrap_or_default();
            frame(hex(rest[0])[0], hex(rest[1])[0], rest[2].parse().unwrap(), &payload)
        }
        // The same with so many bytes of nothing.
        "zeros" => {
            let payload = vec![0; rest[3].parse().unwrap()];
            frame(hex(rest[0])[0], hex(rest[1])[0], rest[2].parse().unwrap(), &payload)
        }
        "bytes" => unescape(rest[0]),
        other => panic!("no step: {other}"),
    }
}

struct Names {
    path: String,
    scheme: &'static str,
}

/// Plays a case: what is not as wanted.
fn play(case: &Case, names: &Names, mut client: Frames, origin: &RawOrigin) -> Option<String> {
    let mut told = Told::default();
    if case.steps[0] != "nothing" {
        client.hello();
    }
    for step in case.steps.iter().filter(|step| *step != "nothing") {
        match step.strip_prefix("wait ") {
            Some(stream) => {
                let stream = stream.parse().unwrap();
                told.until(&mut client, |ends| ends.contains_key(&stream));
            }
            None => drop(client.send(&bytes(step, names))),
        }
    }
    let probe =
        format!("req {PROBE} :method=GET :scheme={{s}} :authority=a :path=/probe-{}", case.line);
    client.send(&bytes(&probe, names));
    let (got, as_wanted) = match &case.wanted {
        Wanted::Streams(wanted) => {
            told.until(&mut client, |ends| {
                ends.contains_key(&PROBE) && wanted.keys().all(|stream| ends.contains_key(stream))
            });
            let good = told.ends.remove(&PROBE).is_some_and(|end| end == "200");
            (format!("{told:?}, then good: {good}"), good && agrees(&told.ends, wanted))
        }
        Wanted::Goaway(code) => {
            client.finish();
            told.until(&mut client, |_| false);
            let untouched = !seen(origin).contains(&format!("/probe-{} ", case.line));
            let wanted = told.goaway.as_deref() == Some(code) && untouched;
            (format!("{told:?}, nothing after it: {untouched}"), wanted)
        }
    };
    let reached = seen(origin).contains(&names.path);
    if as_wanted && case.reaches.is_none_or(|wanted| wanted == reached) {
        return None;
    }
    let (line, steps, scheme) = (case.line, case.steps.join(" | "), names.scheme);
    Some(format!("line {line} ({scheme}): {got}, reached: {reached}: {steps}"))
}

/// Each stream ended in one of the ways that it may.
fn agrees(got: &BTreeMap<u32, String>, wanted: &BTreeMap<u32, String>) -> bool {
    got.len() == wanted.len()
        && got.iter().zip(wanted).all(|((stream, end), (wanted, ends))| {
            stream == wanted && ends.split('/').any(|one| one == end)
        })
}

/// What a client was told.
#[derive(Debug, Default)]
struct Told {
    statuses: BTreeMap<u32, u16>,
    ends: BTreeMap<u32, String>,
    goaway: Option<String>,
}

impl Told {
    /// Reads on until it is enough, or the connection ends.
    fn until(&mut self, client: &mut Frames, enough: impl Fn(&BTreeMap<u32, String>) -> bool) {
        while !enough(&self.ends) {
            let Some(frame) = client.next() else { return };
            if frame.kind == frames::GOAWAY {
                self.goaway = frame.code().map(str::to_owned);
            }
            if let Some(status) = frame.status() {
                self.statuses.entry(frame.stream).or_insert(status);
            }
            let end = match frame.kind {
                frames::RST_STREAM => frame.code().map(str::to_owned),
                _ if frame.ends() => self.statuses.get(&frame.stream).map(u16::to_string),
                _ => None,
            };
            if let Some(end) = end {
                self.ends.entry(frame.stream).or_insert(end);
            }
        }
    }
}

fn all(listener: &str, open: impl Fn(&crate::support::Running) -> Frames, scheme: &'static str) {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let origin = RawOrigin::script(move |_| vec![Step::ReadHead, Step::Send(ok.into())]);
    let limits = "[listener.limit]\nheader_bytes = \"8KiB\"\nuri_bytes = \"2KiB\"";
    let silent = RawOrigin::script(|_| vec![Step::ReadAll]);
    let address = crate::support::Backend::address(&silent);
    let never = format!(
        "[[route]]\nname = \"never\"\npath = \"/never\"\nservice = \"never\"\n\
         [service.never]\n[[service.never.backend]]\naddress = \"{address}\"\n"
    );
    let proxy =
        Proxy::new().listener(limits).listener(listener).backend(&origin).toml(&never).run();
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    let play = |case: &Case| {
        // Were it answered at its head, what comes after would not be looked at any more.
        let folder = if case.reaches.is_none() { "never/" } else { "" };
        let names = Names { path: format!("{folder}case-{}-", case.line), scheme };
        play(case, &names, open(&proxy), &origin)
    };
    let wrong: Vec<_> = cases.iter().filter_map(play).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(proxy.metric("tidegate_panics_total", &[]), 0.0);
    assert!(proxy.metric("tidegate_bad_requests_total", &[("reason", "syntax")]) >= 10.0);
}

#[test]
fn without_tls() {
    all("", |proxy| Frames::open(proxy.address("http")), "http");
}

#[test]
fn who_says_goodbye_is_still_answered() {
    let origin = RawOrigin::always("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Frames::open(proxy.address("http"));
    client.hello();
    client.send(&frames::get_frame(1, "/"));
    client.send(&frame(frames::GOAWAY, 0, 0, &[0; 8]));
    assert_eq!(client.end_of(1), Some(Ok(200)));
    assert_eq!(client.goaway(), Some("NO_ERROR"));
}

#[test]
fn over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (file, key) = certificate(directory.path(), &["a"]);
    let listener =
        format!("[listener.tls]\n[[listener.tls.certificate]]\ncert = {file:?}\nkey = {key:?}");
    let open = |file: &Path, proxy: &crate::support::Running| {
        Frames::open_tls(proxy.address("http"), file)
    };
    all(&listener, |proxy| open(&file, proxy), "https");
}
