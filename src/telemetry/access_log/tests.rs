//! Lines as written, sampling, reopening, and a sink that blocks.

use std::io::Write;
use std::sync::mpsc::{Receiver, channel};

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

fn config(format: AccessFormat, sample: f64) -> Config {
    Config { enabled: true, path: None, format, sample }
}

fn record() -> Record<'static> {
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
        request_id: "abc",
        client: IpAddr::from([192, 0, 2, 1]),
        listener: "http",
        route: "all",
        service: "app",
        backend: "app-1",
        method: "GET",
        host: "example.com",
        target: "/a?b=c",
        version: http::Version::HTTP_11,
        status: 200,
        bytes_in: 0,
        bytes_out: 512,
        duration: 41_007,
        ttfb: Some(40_000),
        retries: 1,
        error: None,
        failed: None,
        user_agent: Some(b"curl/8 \"x\"\n\xff"),
        referer: None,
    }
}

fn line(write: fn(&mut Vec<u8>, &mut Stamp, &Record<'_>), record: &Record<'_>) -> String {
    let mut out = Vec::new();
    write(&mut out, &mut Stamp::default(), record);
    String::from_utf8(out).expect("lines are UTF-8")
}

#[test]
fn json_lines_can_be_read_back() {
    let line = line(format::json, &record());
    assert_eq!(line.matches('\n').count(), 1);
    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["time"], "2023-11-14T22:13:20.042Z");
    assert_eq!(value["protocol"], "HTTP/1.1");
    assert_eq!(value["duration_ms"], 41.007);
    assert_eq!(value["ttfb_ms"], 40.0);
    assert_eq!(value["user_agent"], "curl/8 \"x\"\n\u{fffd}");
    assert_eq!((value.get("error"), value.get("phase")), (None, None));
}

#[test]
fn combined_lines_are_apaches() {
    assert_eq!(
        line(format::combined, &record()),
        "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a?b=c HTTP/1.1\" 200 512 \"-\" \
         \"curl/8 \\x22x\\x22\\x0a\\xff\"\n"
    );
}

#[test]
fn addresses_and_numbers_are_written_as_by_display() {
    for (client, status, bytes) in
        [("0.0.0.0", 100, 0), ("255.10.9.100", 99, 10), ("2001:db8::1", 599, u64::MAX)]
    {
        let address = client.parse().expect("an address");
        let record = Record { client: address, status, bytes_out: bytes, ..record() };
        let line = line(format::combined, &record);
        assert!(line.starts_with(&format!("{client} - - [")), "{line}");
        assert!(line.contains(&format!("\" {status} {bytes} \"-\"")), "{line}");
    }
    let record = Record { duration: 1_000_999, user_agent: Some(b"a\"\xffb"), ..record() };
    let line = line(format::json, &record);
    assert!(line.contains("\"duration_ms\":1000.999,"), "{line}");
    assert!(line.contains("\"user_agent\":\"a\\\"\u{fffd}b\""), "{line}");
}

#[test]
fn errors_are_always_written_and_others_by_their_share() {
    let sink = Sink::Stream(Box::new(std::io::sink()));
    let log = AccessLog::start(&config(AccessFormat::Json, 0.25), sink, Arc::default());
    let writer = Writer::new(log.expect("a thread"));
    let mut rng = fastrand::Rng::with_seed(1);
    let written = (0..10_000).filter(|_| writer.wants(200, false, &mut rng)).count();
    assert!((2300..2700).contains(&written), "{written}");
    assert!((0..1000).all(|_| writer.wants(404, false, &mut rng)));
    assert!((0..1000).all(|_| writer.wants(200, true, &mut rng)));
}

#[test]
fn a_moved_file_is_opened_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("access.log");
    let moved = dir.path().join("access.log.1");
    let config = Config { path: Some(path.clone()), ..config(AccessFormat::Combined, 1.0) };
    let log = AccessLog::open(&config, Arc::default()).expect("a file").expect("it is on");
    let mut writer = Writer::new(log.clone());
    writer.write(&record());
    writer.flush();
    assert!(log.drain(LIMIT));
    std::fs::rename(&path, &moved).expect("renamed");
    log.reopen();
    writer.write(&record());
    writer.write(&record());
    drop(writer);
    assert!(log.drain(LIMIT));
    let lines = |path| std::fs::read_to_string(path).expect("a log").lines().count();
    assert_eq!((lines(&moved), lines(&path)), (1, 2));
}

/// Blocks in every write until it is told to go on.
struct Blocked(Receiver<()>);

impl Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.recv().map_err(io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_blocked_sink_costs_lines_that_are_counted_and_never_waits() {
    let (go_on, blocked) = channel();
    let dropped = Arc::new(AtomicU64::new(0));
    let sink = Sink::Stream(Box::new(Blocked(blocked)));
    let log = AccessLog::start(&config(AccessFormat::Json, 1.0), sink, dropped.clone());
    let log = log.expect("a thread");
    let mut writer = Writer::new(log.clone());
    // The channel takes 64 and the thread holds at most one.
    for _ in 0..WAITING + 10 {
        writer.write(&record());
        writer.flush();
    }
    assert!((9..=10).contains(&dropped.load(Relaxed)), "{}", dropped.load(Relaxed));
    assert!(!log.drain(Duration::ZERO));
    // A sink that fails loses what it was given, and that is counted as well.
    drop(go_on);
    drop(writer);
    while !log.drain(LIMIT) {
        std::thread::yield_now();
    }
    assert_eq!(dropped.load(Relaxed), WAITING as u64 + 10);
}

#[test]
fn a_log_that_is_off_does_not_exist() {
    let off = Config { enabled: false, ..config(AccessFormat::Json, 1.0) };
    assert!(AccessLog::open(&off, Arc::default()).expect("no error").is_none());
}
