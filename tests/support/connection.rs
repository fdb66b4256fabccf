//! A connection that is driven byte by byte: for what a well-behaved client would not do.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::{Answer, connect, read_answer};

/// A client's connection. What is not expected to fail panics.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self { reader: BufReader::new(connect(address).expect("it is listened to")) }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).expect("the other side reads");
    }

    /// Sends what the other side takes before it closes; false if that was not all.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.reader.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// GET with `Host: a`, on a connection that is kept.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        self.answer()
    }

    /// The next complete answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        read_answer(&mut self.reader, false).expect("a complete answer")
    }

    /// The next answer, which is one to HEAD.
    #[track_caller]
    pub fn answer_to_head(&mut self) -> Answer {
        read_answer(&mut self.reader, true).expect("the head of an answer")
    }

    /// One line, without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    #[track_caller]
    pub fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut all = vec![0; bytes];
        self.reader.read_exact(&mut all).expect("so many bytes");
        all
    }

    /// Closes the sending side only.
    pub fn finish(&mut self) {
        self.reader.get_mut().shutdown(Shutdown::Write).expect("it is open");
    }

    /// What still comes, up to the close (or the reset) by the other side.
    #[track_caller]
    pub fn rest(&mut self) -> String {
        let mut all = Vec::new();
        match self.reader.read_to_end(&mut all) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            result => drop(result.expect("the other side closes")),
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Closes it with a reset instead of in order.
    pub fn reset(self) {
        // With a linger of 0 closing is a reset (socket(7)).
        let socket = socket2::SockRef::from(self.reader.get_ref());
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("a socket option");
    }

    pub fn socket(&self) -> &TcpStream {
        self.reader.get_ref()
    }
}
