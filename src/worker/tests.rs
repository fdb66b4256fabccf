//! Workers over real sockets, on a clock that stands still until it is moved: what is bounded by the second can be
//! counted, however slow the machine is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicUsize;
use std::time::SystemTime;

use crate::config::types::Listener;
use crate::snapshot::ListenerView;
use crate::telemetry::{Flood, Refusal};

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

/// One worker with one listener.
async fn start(clock: &Clock, heap: Heap) -> (DataPlane, SocketAddr) {
    let params = Params { workers: 1, clock: clock.clone(), given: Given::default(), heap };
    let plane = DataPlane::start(params).expect("a thread");
    let listener = Arc::new(Listener::plain("http", &[SocketAddr::from(([127, 0, 0, 1], 0))]));
    let binding = plane.bind(std::slice::from_ref(&listener)).expect("a free port");
    let view = ListenerView { config: listener, tls: None, quic: None, stats: Arc::default() };
    let generation = plane.publish(Snapshot {
        generation: 0,
        listeners: vec![Arc::new(view)],
        router: Arc::new(Router::new(&[], &[])),
        routes: Vec::new(),
        offences: None,
        services: Vec::new(),
        access_log: None,
    });
    plane.acknowledged(generation).await;
    plane.listen(binding).await;
    let address = plane.addresses()[0].1;
    (plane, address)
}

/// Bytes that the kernel holds between two ports, and that nobody read yet.
fn on_the_way(client: u16, server: u16) -> u64 {
    let port = |text: &str| u16::from_str_radix(text.rsplit(':').next()?, 16).ok();
    let bytes = |text: &str| u64::from_str_radix(text, 16).ok();
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let queued = sockets.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (from, to) = (port(words.next()?)?, port(words.next()?)?);
        let (sending, receiving) = words.nth(1)?.split_once(':')?;
        match (from, to) {
            _ if (from, to) == (client, server) => bytes(sending),
            _ if (from, to) == (server, client) => bytes(receiving),
            _ => None,
        }
    });
    queued.sum()
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.expect("within a minute");
}

/// A client whose head is wrong reads its answer to the end and then sends so much. Whether its connection
/// is still there when all of that was read, or thrown away with it.
async fn is_heard_out(plane: &DataPlane, address: SocketAddr, bytes: usize) -> bool {
    let mut client = TcpStream::connect(address).expect("it listens");
    let port = client.local_addr().expect("it is connected").port();
    client.set_read_timeout(Some(DEADLINE)).expect("more than zero");
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer, and its end");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // Who is cut meanwhile cannot send any more.
    let _ = client.write_all(&vec![b'x'; bytes]);
    eventually(|| on_the_way(port, address.port()) == 0).await;
    // What was read last was judged when the worker comes to something else.
    plane.turned().await;
    let open = plane.shared.open.load(SeqCst) > 0;
    drop(client);
    eventually(|| plane.shared.open.load(SeqCst) == 0).await;
    open
}

#[tokio::test]
async fn what_comes_after_a_refusal_is_thrown_away_within_bounds() {
    const SMALL: usize = 1_000_000;
    let clock = Clock::manual(SystemTime::UNIX_EPOCH);
    let (plane, address) = start(&clock, Heap::default()).await;
    assert!(!is_heard_out(&plane, address, 2 << 20).await, "1 MiB of one connection");
    // What the first one had taken is a MiB and a read. Of 16 MiB this leaves 15 of these and not 16.
    for n in 1..=15 {
        assert!(is_heard_out(&plane, address, SMALL).await, "{n}");
    }
    assert!(!is_heard_out(&plane, address, SMALL).await, "16 MiB of the worker");
    assert!(!is_heard_out(&plane, address, SMALL).await, "no more in this second");
    clock.advance(Duration::from_secs(1));
    assert!(is_heard_out(&plane, address, SMALL).await, "each second has its own");
    plane.stop(DEADLINE).await;
}

#[tokio::test]
async fn memory_goes_back_when_many_connections_went_idle() {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let count = || {
        GIVEN.fetch_add(1, SeqCst);
    };
    let heap = Heap { give_back: count };
    let clock = Clock::manual(SystemTime::UNIX_EPOCH);
    let (plane, address) = start(&clock, heap).await;
    let connect = |_| TcpStream::connect(address).expect("it listens");
    let clients: Vec<_> = (0..slack::MANY).map(connect).collect();
    eventually(|| plane.shared.open.load(SeqCst) == clients.len()).await;
    eventually(|| {
        clock.advance(Duration::from_millis(10));
        GIVEN.load(SeqCst) > 0
    })
    .await;
    drop(clients);
    plane.stop(DEADLINE).await;
}

/// Whether nothing came, nor the end.
fn is_silent(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("it can");
    let error = (&mut &*client).read(&mut [0]).map_err(|error| error.kind());
    error == Err(std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn who_floods_is_told_later() {
    let clock = Clock::manual(SystemTime::UNIX_EPOCH);
    let (plane, address) = start(&clock, Heap::default()).await;
    let mut client = TcpStream::connect(address).expect("it listens");
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\na: {}\r\n\r\n", "b".repeat(100_000));
    client.write_all(head.as_bytes()).expect("the kernel takes it");
    let stats = plane.current().listeners[0].stats.clone();
    eventually(|| stats.floods(Flood::LargeHead) == 1).await;
    plane.turned().await;
    assert!(is_silent(&client));
    clock.advance(Duration::from_millis(200));
    eventually(|| !is_silent(&client)).await;
    drop(client);
    plane.stop(DEADLINE).await;
}

#[tokio::test]
async fn who_is_banned_is_closed_later() {
    let clock = Clock::manual(SystemTime::UNIX_EPOCH);
    let (plane, address) = start(&clock, Heap::default()).await;
    let by: (Arc<str>, Arc<str>) = ("app".into(), "one".into());
    let network = "127.0.0.1/32".parse().expect("a network");
    assert!(plane.bans().begin(network, clock.now(), Duration::from_secs(600), (&by.0, &by.1)));
    plane.bans().publish_rest();
    let client = TcpStream::connect(address).expect("it listens");
    let stats = plane.current().listeners[0].stats.clone();
    eventually(|| stats.refused(Refusal::Banned) == 1).await;
    plane.turned().await;
    assert!(is_silent(&client));
    clock.advance(Duration::from_secs(1));
    eventually(|| !is_silent(&client)).await;
    plane.stop(DEADLINE).await;
}
