//! Many clients, an address each, few of them at a time: by PROXY headers, or from the addresses of the loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::ops::Range;

use socket2::{Domain, Socket, Type};

use super::DEADLINE;

/// Connections that one thread has open at once.
const WINDOW: usize = 32;
const THREADS: u32 = 2;

/// Clients 0, 1, 2… of a proxy.
#[derive(Debug, Clone)]
pub struct Crowd {
    address: SocketAddr,
    is_direct: bool,
    request: String,
    times: usize,
}

impl Crowd {
    /// Clients from 10.0.0.0 on, who come through a proxy that says so in a PROXY header (version 2).
    pub fn through_proxy(address: SocketAddr) -> Self {
        let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".into();
        Self { address, is_direct: false, request, times: 1 }
    }

    /// Clients from 127.1.0.0 on, who come by themselves.
    pub fn direct(address: SocketAddr) -> Self {
        Self { is_direct: true, ..Self::through_proxy(address) }
    }

    /// What each sends, and how often; the connection is kept.
    pub fn asking(mut self, request: &str, times: usize) -> Self {
        (self.request, self.times) = (request.into(), times);
        self
    }

    /// The address of one of them.
    pub fn client(&self, number: u32) -> Ipv4Addr {
        let base = if self.is_direct { [127, 1, 0, 0] } else { [10, 0, 0, 0] };
        Ipv4Addr::from(u32::from_be_bytes(base) + number)
    }

    /// Each opens a connection, sends all its requests at once and reads until that many answers came or the
    /// connection ended: the statuses, client by client.
    pub fn ask(&self, who: Range<u32>) -> Vec<Vec<u16>> {
        let each = who.len().div_ceil(THREADS as usize).max(1) as u32;
        std::thread::scope(|scope| {
            let parts: Vec<_> = who
                .clone()
                .step_by(each as usize)
                .map(|from| scope.spawn(move || self.part(from..who.end.min(from + each))))
                .collect();
            parts.into_iter().flat_map(|part| part.join().expect("a part of the crowd")).collect()
        })
    }

    fn part(&self, who: Range<u32>) -> Vec<Vec<u16>> {
        let numbers: Vec<u32> = who.collect();
        let mut statuses = Vec::with_capacity(numbers.len());
        for window in numbers.chunks(WINDOW) {
            let open: Vec<_> = window.iter().map(|number| self.begin(*number)).collect();
            statuses.extend(open.into_iter().map(|stream| self.finish(stream)));
        }
        statuses
    }

    fn begin(&self, number: u32) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let client = SocketAddrV4::new(self.client(number), 0);
        if self.is_direct {
            socket.bind(&client.into()).expect("the loopback has the address");
        }
        socket.connect(&self.address.into()).expect("the proxy listens");
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).expect("a plain socket");
        let mut bytes = Vec::new();
        if !self.is_direct {
            bytes.extend_from_slice(&header(*client.ip()));
        }
        bytes.extend_from_slice(self.request.repeat(self.times).as_bytes());
        // One that is not let in may be closed already.
        let _ = stream.write_all(&bytes);
        stream
    }

    fn finish(&self, mut stream: TcpStream) -> Vec<u16> {
        let (mut answers, mut piece) = (Vec::new(), [0; 8192]);
        let mut found = Vec::new();
        // A connection that was closed before it was read from is reset.
        while let Ok(read) = stream.read(&mut piece) {
            answers.extend_from_slice(&piece[..read]);
            found = statuses(&answers);
            if read == 0 || found.len() == self.times {
                break;
            }
        }
        // Reset, rather than left waiting for its last packets by the thousand.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
        found
    }
}

/// A PROXY header of version 2: TCP over IPv4, from that address.
fn header(client: Ipv4Addr) -> [u8; 28] {
    let mut header = *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c............";
    header[16..20].copy_from_slice(&client.octets());
    header[20..24].copy_from_slice(&[127, 0, 0, 1]);
    header[24..28].copy_from_slice(&[0x10, 0, 0, 80]);
    header
}

/// Of the answers that begin in these bytes. Their bodies do not begin like an answer.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let begin = b"HTTP/1.1 ";
    let begins = bytes.windows(begin.len() + 3).filter(|window| window.starts_with(begin));
    begins.filter_map(|window| std::str::from_utf8(&window[9..]).ok()?.parse().ok()).collect()
}
