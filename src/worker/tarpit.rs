//! Connections of banned clients, which hear nothing for a while before they are closed: who comes again at once when it
//! is sent away would otherwise cost as much as it can. Nothing is read of them, and nobody waits for them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

use crate::clock::Micros;

/// At once on one worker; above that they are closed without delay.
const MOST: usize = 512;
/// How long at least; the worker looks after them twice a second.
const HOLD: Duration = Duration::from_secs(1);
/// What the kernel takes of each, in bytes; it has a minimum of its own.
const RECEIVE_BUFFER: usize = 2048;

#[derive(Debug, Default)]
pub struct Tarpit {
    /// By when they came.
    held: RefCell<VecDeque<(Micros, TcpStream)>>,
}

impl Tarpit {
    /// Keeps it, or closes it.
    pub fn hold(&self, now: Micros, stream: tokio::net::TcpStream) {
        let mut held = self.held.borrow_mut();
        if held.len() >= MOST {
            return;
        }
        // The runtime is to know nothing of what it does.
        let Ok(stream) = stream.into_std() else { return };
        // It costs more memory if this fails.
        let _ = SockRef::from(&stream).set_recv_buffer_size(RECEIVE_BUFFER);
        held.push_back((now, stream));
    }

    /// Closes those whose time is over.
    pub fn sweep(&self, now: Micros) {
        let mut held = self.held.borrow_mut();
        while held.front().is_some_and(|(since, _)| now >= since + HOLD.as_micros() as Micros) {
            held.pop_front();
        }
        if held.is_empty() {
            held.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const SECOND: Micros = 1_000_000;

    async fn pair() -> (TcpStream, tokio::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        (client, listener.accept().await.expect("accept").0)
    }

    fn is_open(client: &TcpStream) -> bool {
        client.set_nonblocking(true).expect("nonblocking");
        let error = (&mut &*client).read(&mut [0]).map_err(|error| error.kind());
        error == Err(std::io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn it_holds_each_for_a_second_and_so_many_at_most() {
        let tarpit = Tarpit::default();
        let ((one, to_one), (two, to_two)) = (pair().await, pair().await);
        tarpit.hold(0, to_one);
        tarpit.hold(SECOND / 2, to_two);
        tarpit.sweep(SECOND - 1);
        assert!(is_open(&one) && is_open(&two));
        tarpit.sweep(SECOND);
        assert!(!is_open(&one) && is_open(&two));
        tarpit.sweep(SECOND * 3 / 2);
        assert!(!is_open(&two));

        let mut clients = Vec::new();
        for _ in 0..MOST + 1 {
            let (client, stream) = pair().await;
            tarpit.hold(SECOND * 2, stream);
            clients.push(client);
        }
        let last = clients.pop().expect("pushed");
        assert!(!is_open(&last) && clients.iter().all(is_open));
    }
}
