//! Backends that differ in their address and not in their port, as those of one name do: plain
//! HTTP/1.1 servers on 127.0.0.N. Each says its N; a request for `/hold` waits until it is let go.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::DEADLINE;

/// Servers on addresses of the loopback, all at one port.
pub struct Islands {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    released: bool,
    held: usize,
    /// Open connections, by the last number of the address.
    open: std::collections::BTreeMap<u8, usize>,
}

impl Islands {
    /// One on each 127.0.0.N.
    pub fn start(last: &[u8]) -> Self {
        let at = |last: &u8, port| TcpListener::bind(SocketAddr::from(([127, 0, 0, *last], port)));
        let all = || {
            let first = at(last.first()?, 0).ok()?;
            let port = first.local_addr().ok()?.port();
            let rest = last[1..].iter().map(|last| at(last, port).ok());
            Some((port, std::iter::once(Some(first)).chain(rest).collect::<Option<Vec<_>>>()?))
        };
        // A port may be taken on one of them.
        let (port, listeners) =
            (0..100).find_map(|_| all()).expect("a port that is free on all of them");
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        for listener in listeners {
            let state = state.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let state = state.clone();
                    // How it ends is for the other side to see.
                    std::thread::spawn(move || {
                        let Ok(SocketAddr::V4(at)) = stream.local_addr() else { return };
                        let last = at.ip().octets()[3];
                        let count = |change: fn(&mut usize)| {
                            let mut state = state.0.lock().expect("no holder panics");
                            change(state.open.entry(last).or_default());
                        };
                        count(|open| *open += 1);
                        let _ = serve(stream, last, &state);
                        count(|open| *open -= 1);
                    });
                }
            });
        }
        Self { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn at(&self, last: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::from([127, 0, 0, last]), self.port)
    }

    /// Requests for `/hold` that came in so far.
    pub fn held(&self) -> usize {
        self.state.0.lock().expect("no holder panics").held
    }

    /// Open connections to 127.0.0.N.
    pub fn open(&self, last: u8) -> usize {
        self.state.0.lock().expect("no holder panics").open.get(&last).copied().unwrap_or(0)
    }

    /// Lets all of them go on, now and later.
    pub fn release(&self) {
        self.state.0.lock().expect("no holder panics").released = true;
        self.state.1.notify_all();
    }
}

fn serve(
    stream: TcpStream,
    last: u8,
    (state, changed): &(Mutex<State>, Condvar),
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(first) = lines.next() {
        let first = first?;
        for line in lines.by_ref() {
            if line?.is_empty() {
                break;
            }
        }
        if first.contains("/hold") {
            let mut held = state.lock().expect("no holder panics");
            held.held += 1;
            let wait = changed.wait_timeout_while(held, DEADLINE, |state| !state.released);
            drop(wait.expect("no holder panics"));
        }
        let body = last.to_string();
        write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    }
    Ok(())
}
