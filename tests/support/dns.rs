//! A nameserver on a UDP socket of the loopback: it answers what a test tells it to, and counts
//! what it was asked. RFC 1035 by hand, as much of it as A, AAAA and SRV need.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// What is said of a name.
#[derive(Debug, Clone)]
pub enum Says {
    /// Addresses, and for how many seconds they are good.
    At(u32, Vec<IpAddr>),
    /// SRV records: priority, weight, port, target.
    Srv(u32, Vec<(u16, u16, u16, String)>),
    /// There is no such name.
    NxDomain,
    ServFail,
    /// No answer at all, as from a dead server.
    Nothing,
}

pub struct Nameserver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    names: HashMap<String, Says>,
    /// When each name was asked for, whatever the type.
    asked: HashMap<String, Vec<Instant>>,
    /// For every name, as long as it is set.
    all: Option<Says>,
}

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

impl Nameserver {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port on the loopback");
        let address = socket.local_addr().expect("it is bound");
        let state = Arc::<Mutex<State>>::default();
        let ours = state.clone();
        std::thread::spawn(move || {
            let mut packet = [0; 1500];
            // Ends with the test's process.
            while let Ok((length, peer)) = socket.recv_from(&mut packet) {
                let answer = answer(&packet[..length], &mut lock(&ours));
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, of this name.
    pub fn says(&self, name: &str, says: Says) {
        lock(&self.state).names.insert(name.to_owned(), says);
    }

    /// The same for addresses of 127.0.0.0/8, by their last number; good for no time at all.
    pub fn at(&self, name: &str, last: &[u8]) {
        let addresses = last.iter().map(|last| IpAddr::from([127, 0, 0, *last]));
        self.says(name, Says::At(0, addresses.collect()));
    }

    /// Whatever the name, until it is taken back with `None`.
    pub fn always(&self, says: Option<Says>) {
        lock(&self.state).all = says;
    }

    /// How often a name was asked for, whatever the type.
    pub fn asked(&self, name: &str) -> usize {
        self.times(name).len()
    }

    /// When that was.
    pub fn times(&self, name: &str) -> Vec<Instant> {
        lock(&self.state).asked.get(name).cloned().unwrap_or_default()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no holder panics")
}

fn answer(packet: &[u8], state: &mut State) -> Option<Vec<u8>> {
    let (name, end) = question(packet)?;
    let kind = u16::from_be_bytes([*packet.get(end)?, *packet.get(end + 1)?]);
    state.asked.entry(name.clone()).or_default().push(Instant::now());
    let says = state.all.as_ref().or_else(|| state.names.get(&name)).cloned();
    let (code, records): (u8, Vec<(u32, Vec<u8>)>) = match says.unwrap_or(Says::NxDomain) {
        Says::Nothing => return None,
        Says::NxDomain => (3, Vec::new()),
        Says::ServFail => (2, Vec::new()),
        Says::At(ttl, addresses) => {
            let of = addresses.into_iter().filter_map(|address| match (address, kind) {
                (IpAddr::V4(ip), A) => Some((ttl, ip.octets().to_vec())),
                (IpAddr::V6(ip), AAAA) => Some((ttl, ip.octets().to_vec())),
                _ => None,
            });
            (0, of.collect())
        }
        Says::Srv(ttl, records) if kind == SRV => {
            let of = records.into_iter().map(|(priority, weight, port, target)| {
                let mut data: Vec<u8> =
                    [priority, weight, port].into_iter().flat_map(u16::to_be_bytes).collect();
                for label in target.split('.').filter(|label| !label.is_empty()) {
                    data.push(label.len() as u8);
                    data.extend_from_slice(label.as_bytes());
                }
                data.push(0);
                (ttl, data)
            });
            (0, of.collect())
        }
        Says::Srv(..) => (0, Vec::new()),
    };
    // An answer, recursion wanted and given; one question, the records.
    let mut out = packet[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1]);
    out.extend((records.len() as u16).to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(&packet[12..end + 4]);
    for (ttl, data) in records {
        // The name is that of the question, at byte 12.
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ttl.to_be_bytes());
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    Some(out)
}

/// The name that is asked for, in lower case, and where it ends.
fn question(packet: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*packet.get(at)?);
        let label = packet.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(label).to_lowercase());
    }
}
