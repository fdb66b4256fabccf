//! A backend on a bare socket: it records every byte it gets and plays a script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::{Backend, DEADLINE};

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads the head of a request, up to the empty line.
    ReadHead,
    /// Reads that many bytes.
    Read(usize),
    /// Reads until the other side closes.
    ReadAll,
    Send(Vec<u8>),
    /// Waits for [`RawOrigin::release`] (at once if it was called before).
    Hold,
    /// Starts again with the first step.
    Again,
    /// Closes with a reset instead of in order.
    Reset,
}

/// A listening socket with a script for each connection. After the last step a connection is
/// closed in order. Its threads end with the connections, which end with their test.
pub struct RawOrigin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What came in, by connection in the order they were accepted.
    received: Vec<Vec<u8>>,
    /// First lines of heads, in the order in which they came on any connection.
    requests: Vec<String>,
    released: bool,
}

impl RawOrigin {
    /// Plays `script(n)` on the n-th connection, from 0.
    pub fn script(script: impl Fn(usize) -> Vec<Step> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on the loopback");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let ours = shared.clone();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { break };
                let (shared, steps) = (ours.clone(), script(number));
                shared.lock().received.push(Vec::new());
                // How it ends is for the other side to see.
                std::thread::spawn(move || drop(play(&shared, number, stream, &steps)));
            }
        });
        Self { address, shared }
    }

    /// The same bytes for every request (without a body), on kept connections.
    pub fn always(answer: &str) -> Self {
        let answer = answer.as_bytes().to_vec();
        Self::script(move |_| vec![Step::ReadHead, Step::Send(answer.clone()), Step::Again])
    }

    /// Lets every [`Step::Hold`] go on, now and later.
    pub fn release(&self) {
        self.shared.lock().released = true;
        self.shared.changed.notify_all();
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().received.len()
    }

    /// The first lines of all requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<String> {
        self.shared.lock().requests.clone()
    }

    /// What came in on the n-th connection so far.
    pub fn received(&self, number: usize) -> Vec<u8> {
        self.shared.lock().received.get(number).cloned().unwrap_or_default()
    }

    /// The same as text.
    pub fn received_text(&self, number: usize) -> String {
        String::from_utf8_lossy(&self.received(number)).into_owned()
    }

    /// What came after the first head, which itself may end like the last chunk does: with an id that ends with 0.
    pub fn received_body(&self, number: usize) -> String {
        let all = self.received_text(number);
        all.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())
    }
}

impl Backend for RawOrigin {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn record(&self, number: usize, bytes: &[u8]) {
        self.lock().received[number].extend_from_slice(bytes);
        self.changed.notify_all();
    }
}

fn play(shared: &Shared, number: usize, stream: TcpStream, steps: &[Step]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let mut at = 0;
    while let Some(step) = steps.get(at) {
        at += 1;
        match step {
            Step::ReadHead => {
                let mut lines = 0;
                loop {
                    let mut line = Vec::new();
                    if reader.read_until(b'\n', &mut line)? == 0 {
                        return Ok(());
                    }
                    shared.record(number, &line);
                    if line == b"\r\n" {
                        break;
                    }
                    if lines == 0 {
                        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                        shared.lock().requests.push(line);
                    }
                    lines += 1;
                }
            }
            Step::Read(bytes) => {
                let mut left = *bytes;
                while left > 0 {
                    let read = reader.fill_buf()?.len().min(left);
                    if read == 0 {
                        return Ok(());
                    }
                    shared.record(number, &reader.buffer()[..read]);
                    reader.consume(read);
                    left -= read;
                }
            }
            Step::ReadAll => {
                let mut buffer = [0; 4096];
                loop {
                    match reader.read(&mut buffer)? {
                        0 => break,
                        n => shared.record(number, &buffer[..n]),
                    }
                }
            }
            Step::Send(bytes) => writer.write_all(bytes)?,
            Step::Hold => {
                let held = shared
                    .changed
                    .wait_timeout_while(shared.lock(), DEADLINE, |state| !state.released);
                drop(held);
            }
            Step::Again => at = 0,
            Step::Reset => {
                // With a linger of 0 closing is a reset (socket(7)).
                let socket = socket2::SockRef::from(&writer);
                return socket.set_linger(Some(std::time::Duration::ZERO));
            }
        }
    }
    writer.shutdown(Shutdown::Both)
}
