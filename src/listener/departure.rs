//! Notices that a client closes its connection while nobody reads from it.
//!
//! The codec reads no further while a request runs, so that what comes next stays where it is. A
//! request that waits for a backend would then keep its place until its time is over, although
//! nobody waits for the answer. The kernel tells of the end without any reading, also behind bytes that nobody
//! has read; but only who is registered for it, and the codec owns the socket. So a second
//! descriptor of it is. That costs four system calls, for a request that waits and no other.
//!
//! A client that only closes its sending side looks the same, and is taken for gone while its request waits, as nginx
//! does all the time. Once a backend has the request, it gets its answer.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A client that is watched.
#[derive(Debug)]
pub struct Departure(AsyncFd<OwnedFd>);

impl Departure {
    /// `socket`: of a connection that is open, which the caller's own future keeps so.
    ///
    /// # Errors
    /// There are no more descriptors: then nobody is told, and the wait has its own limit.
    pub fn watch(socket: RawFd) -> io::Result<Self> {
        // SAFETY: whoever asks runs on the connection that owns the descriptor, and the borrow
        // ends with this call.
        let socket = unsafe { BorrowedFd::borrow_raw(socket) }.try_clone_to_owned()?;
        // SAFETY: an owned descriptor stays the same and open for as long as the registration,
        // which is dropped before it.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        registered.map(Self).map_err(|failed| failed.into_parts().1)
    }

    /// Ready when the client has closed its side, or the connection is broken.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Ok(mut seen) = ready!(self.0.poll_read_ready(cx)) else { return Poll::Ready(()) };
            if seen.ready().is_read_closed() {
                return Poll::Ready(());
            }
            // Bytes, which are not ours.
            seen.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[tokio::test]
    async fn the_end_is_seen_behind_bytes_that_stay_where_they_are() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let mut client = std::net::TcpStream::connect(address).expect("connected");
        let (mut server, _) = listener.accept().expect("accepted");
        let departure = Departure::watch(server.as_raw_fd()).expect("watched");
        client.write_all(b"next").expect("sent");
        let still = poll_fn(|cx| Poll::Ready(departure.poll(cx).is_pending())).await;
        assert!(still, "bytes are no end");
        drop(client);
        poll_fn(|cx| departure.poll(cx)).await;
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).expect("read");
        assert_eq!(bytes, b"next");
    }
}
