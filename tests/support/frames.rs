//! An HTTP/2 client's side, frame by frame and with literal HPACK only: whatever is not allowed can be sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::{DEADLINE, connect};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// One frame that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM and GOAWAY.
    pub fn code(&self) -> Option<&'static str> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        let code = u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?);
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(code as usize).copied()
    }

    /// The status that a head begins with.
    pub fn status(&self) -> Option<u16> {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        // After the table's new size, if there is one (RFC 7541 §6.3).
        let sizes = self.payload.iter().take_while(|&&byte| byte & 0xe0 == 0x20).count();
        let payload = &self.payload[sizes..];
        match (self.kind, *payload.first()?) {
            (HEADERS, byte @ 0x88..=0x8e) => Some(INDEXED[usize::from(byte - 0x88)]),
            // A literal value for the name `:status`.
            (HEADERS, 0x08 | 0x18 | 0x48) => {
                let length = usize::from(payload.get(1)? & 0x7f);
                let value = payload.get(2..2 + length)?;
                match payload[1] & 0x80 {
                    0 => std::str::from_utf8(value).ok()?.parse().ok(),
                    _ => digits(value),
                }
            }
            _ => None,
        }
    }

    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// Three digits in Huffman's code (RFC 7541 appendix B): 0 to 2 have five bits, the others six.
fn digits(bytes: &[u8]) -> Option<u16> {
    let bits = bytes.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
    let mut left = bytes.len() * 8;
    let mut number = 0;
    for _ in 0..3 {
        left = left.checked_sub(5)?;
        let five = bits >> left & 0x1f;
        let digit = match five {
            0..=2 => five,
            _ => {
                left = left.checked_sub(1)?;
                (bits >> left & 0x3f).checked_sub(0x19)? + 3
            }
        };
        number = number * 10 + u16::try_from(digit).ok()?;
    }
    Some(number)
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header as a literal without indexing, and without Huffman's code.
pub fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        // An integer with a prefix of seven bits (RFC 7541 §5.1).
        match text.len() {
            short @ 0..127 => out.push(short as u8),
            long => {
                out.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    out.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                out.push(rest as u8);
            }
        }
        out.extend_from_slice(text);
    }
    out
}

/// A plain GET.
pub fn get_frame(stream: u32, path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)];
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes()))
        .collect();
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

trait Io: Read + Write {}
impl<T: Read + Write> Io for T {}

/// A connection of which frames are read.
pub struct Frames {
    io: Box<dyn Io>,
    socket: TcpStream,
    read: Vec<u8>,
}

impl Frames {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let socket = connect(address).expect("it is listened to");
        let io = Box::new(socket.try_clone().expect("a descriptor"));
        Self { io, socket, read: Vec::new() }
    }

    /// The other end: takes the next connection, and says hello after its preface.
    #[track_caller]
    pub fn accept(listener: &TcpListener) -> Self {
        let (socket, _) = listener.accept().expect("a connection");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        socket.set_nodelay(true).expect("it is TCP");
        let mut io = socket.try_clone().expect("a descriptor");
        let mut preface = [0; PREFACE.len()];
        io.read_exact(&mut preface).expect("a preface");
        assert_eq!(preface, PREFACE);
        let mut accepted = Self { io: Box::new(io), socket, read: Vec::new() };
        accepted.send(&frame(SETTINGS, 0, 0, &[]));
        accepted
    }

    /// Reads up to a frame of that kind on a stream. What comes in between is left out.
    #[track_caller]
    pub fn until(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next().expect("it goes on");
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
        }
    }

    /// Over TLS, to the name `a`, with h2 by ALPN.
    #[track_caller]
    pub fn open_tls(address: SocketAddr, certificate: &Path) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
        roots.add(certificate).expect("it can be trusted");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("a").expect("a name");
        let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
        let socket = connect(address).expect("it is listened to");
        let io = rustls::StreamOwned::new(session, socket.try_clone().expect("a descriptor"));
        Self { io: Box::new(io), socket, read: Vec::new() }
    }

    /// The preface and empty SETTINGS.
    pub fn hello(&mut self) {
        self.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    }

    /// The same, and what is said again is said in full: every status can be read.
    pub fn hello_without_table(&mut self) {
        let none = frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        self.send(&[PREFACE, &none].concat());
    }

    /// Sends what the other side takes before it closes; false if that was not all.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.io.write_all(bytes).and_then(|()| self.io.flush()).is_ok()
    }

    /// The next frame; `None` at the end of the connection, however it ended.
    #[track_caller]
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.read.first_chunk::<9>() {
                let &[a, b, c, kind, flags, s, t, u, v] = head;
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if self.read.len() >= 9 + length {
                    let payload = self.read[9..9 + length].to_vec();
                    self.read.drain(..9 + length);
                    let stream = u32::from_be_bytes([s, t, u, v]);
                    return Some(Frame { kind, flags, stream, payload });
                }
            }
            let mut piece = [0; 16 * 1024];
            match self.io.read(&mut piece) {
                Ok(0) => return None,
                Ok(n) => self.read.extend_from_slice(&piece[..n]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("neither a frame nor the end came in time: {error}")
                }
                Err(_) => return None,
            }
        }
    }

    /// Reads until the other side ends the connection: the code of its GOAWAY.
    #[track_caller]
    pub fn goaway(&mut self) -> Option<&'static str> {
        let mut code = None;
        while let Some(frame) = self.next() {
            code = frame.code().filter(|_| frame.kind == GOAWAY).or(code);
        }
        code
    }

    /// Reads until a stream ends: its status, or the code that it was reset with. `None` if the
    /// connection ended first.
    #[track_caller]
    pub fn end_of(&mut self, stream: u32) -> Option<Result<u16, &'static str>> {
        let mut status = None;
        while let Some(frame) = self.next() {
            if frame.stream != stream {
                continue;
            }
            status = status.or(frame.status());
            if frame.kind == RST_STREAM {
                return frame.code().map(Err);
            }
            if frame.ends() {
                return status.map(Ok);
            }
        }
        None
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Closes the sending side only.
    pub fn finish(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

#[test]
fn statuses_are_read_however_they_are_packed() {
    let head = |payload: &[u8]| {
        Frame { kind: HEADERS, flags: 4, stream: 1, payload: payload.to_vec() }.status()
    };
    assert_eq!((head(&[0x88]), head(&[0x8c, 1, 2])), (Some(200), Some(400)));
    // 421: 011010 00010 00001; 503: 011011 00000 011001.
    let four = [0x48, 0x82, 0b0110_1000, 0b0100_0001];
    assert_eq!(head(&four), Some(421));
    let five = [0x48, 0x83, 0b0110_1100, 0b0000_1100, 0b1111_1111];
    assert_eq!(head(&five), Some(503));
    assert_eq!(head(b"\x08\x03431"), Some(431));
    assert_eq!((head(b"\x20\x08\x03431"), head(&[0x20, 0x88])), (Some(431), Some(200)));
    assert_eq!((head(&[]), head(&[0x40]), head(&[0x48])), (None, None, None));
}
