//! To zero and back: how long the first held request waits beyond what its backend needs to start.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::{Proxy, connect, get};
use super::{Extent, Table};

/// Times of each kind; the median counts.
const TIMES: usize = 7;

pub fn run(extent: Extent, table: &mut Table) {
    let times = if extent.shrink { TIMES } else { 1 };
    let hold = "[service.app.scaling.hold]\nidle_after = \"1ms\"";
    let proxy = Proxy::new().origins("--delay 0ms", "").scaling(0, 1, hold).run();
    let url = proxy.url("/");
    let held = median((0..times).map(|_| {
        proxy.wait_for_size(0);
        let begun = Instant::now();
        assert_eq!(get(&url).status, 200);
        begun.elapsed()
    }));
    let own = median((0..times).map(|_| start()));
    table.time(6, "a backend's own start, to its first answer", own, None);
    table.time(6, "the first request, held while it starts", held, None);
    let beyond = held.saturating_sub(own);
    table.time(6, "waited beyond the start", beyond, Some(Duration::from_millis(100)));
}

/// From the order to the first answer, asked without a pause.
fn start() -> Duration {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a free port on the loopback");
    let begun = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["origin", "--port", &address.port().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it is built");
    while connect(address).is_err() {
        std::thread::sleep(Duration::from_micros(500));
    }
    assert_eq!(get(&format!("http://{address}/health")).status, 200);
    let took = begun.elapsed();
    child.kill().and_then(|()| child.wait()).expect("it runs");
    took
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times[times.len() / 2]
}
