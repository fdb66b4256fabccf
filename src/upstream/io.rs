//! The socket below one upstream connection: keeps the request head as it was written (so that
//! a retry needs no copy of the header map up front), notices a backend that reads nothing, and lets nothing
//! through that is no proper answer.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::{Asked, Flaw};

use super::socket::Socket;
use super::strict::{Next, Strict};

/// Heads longer than this are not kept; such a request is not retried once sent.
const LONGEST_HEAD: usize = 64 * 1024;
const END: &[u8] = b"\r\n\r\n";
/// Read at once of what has to be held back.
const ASIDE: usize = 2048;

/// What the socket tells the owner of the connection.
#[derive(Debug, Default)]
pub struct Wire {
    /// The head of the request that was sent last, up to and including the empty line.
    head: RefCell<Vec<u8>>,
    keep: Cell<Keep>,
    /// The current request has no body.
    bodyless: Cell<bool>,
    /// Whether any byte of the current request was handed to the kernel.
    written: Cell<bool>,
    /// Whether any byte of the answer came.
    answered: Cell<bool>,
    /// A write would block.
    blocked: Cell<bool>,
    /// Grows with every write that took something.
    progress: Cell<u32>,
    /// The backend takes nothing more; see [`Wire::failed`].
    broken: Cell<bool>,
    /// Of the request that was not begun to be answered.
    asked: Cell<Option<Asked>>,
    /// What the backend sent is no proper answer.
    flaw: Cell<Option<Flaw>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Keep {
    #[default]
    Off,
    Open,
    Whole,
}

impl Wire {
    /// A new request begins; its head is kept if it may be sent again.
    pub fn begin(&self, keep_head: bool, bodyless: bool, asked: Asked) {
        self.bodyless.set(bodyless);
        self.asked.set(Some(asked));
        self.written.set(false);
        self.answered.set(false);
        self.keep.set(if keep_head { Keep::Open } else { Keep::Off });
        if keep_head {
            self.head.borrow_mut().clear();
        }
    }

    /// Whether any byte of the current request reached the kernel.
    pub fn written(&self) -> bool {
        self.written.get()
    }

    pub fn answered(&self) -> bool {
        self.answered.get()
    }

    /// While a write would block: a number that changes when the peer has read something.
    pub fn blocked(&self) -> Option<u32> {
        self.blocked.get().then(|| self.progress.get())
    }

    /// The whole head of the current request, if it was kept and sent.
    pub fn take_head(&self) -> Option<Vec<u8>> {
        (self.keep.replace(Keep::Off) == Keep::Whole).then(|| self.head.take())
    }

    /// A copy of it; it is still kept.
    pub fn copy_head(&self) -> Option<Vec<u8>> {
        (self.keep.get() == Keep::Whole).then(|| self.head.borrow().clone())
    }

    /// Why nothing that the backend sends is to be trusted any more.
    pub fn flaw(&self) -> Option<Flaw> {
        self.flaw.get()
    }

    /// The backend closed its receiving side.
    pub fn broken(&self) -> bool {
        self.broken.get()
    }

    /// A write failed. A backend that answers before it has read the request, and closes, breaks
    /// our writes while its answer waits to be read (RFC 9112 §9.6). So the rest of a request
    /// that it has begun to get is thrown away, and reading finds the answer, or the end.
    fn failed(&self, error: io::Error, bytes: usize) -> Poll<io::Result<usize>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        self.blocked.set(false);
        if self.written.get() && matches!(error.kind(), BrokenPipe | ConnectionReset) {
            self.broken.set(true);
            return Poll::Ready(Ok(bytes));
        }
        Poll::Ready(Err(error))
    }

    fn wrote(&self, bufs: &[&[u8]], mut n: usize) {
        self.blocked.set(false);
        if n == 0 {
            return;
        }
        self.written.set(true);
        self.progress.set(self.progress.get().wrapping_add(1));
        if self.keep.get() != Keep::Open {
            return;
        }
        let mut head = self.head.borrow_mut();
        for buf in bufs {
            let part = &buf[..n.min(buf.len())];
            n -= part.len();
            let from = head.len().saturating_sub(3);
            head.extend_from_slice(part);
            let end = match self.bodyless.get() {
                // All that is written is head.
                true => head.ends_with(END).then_some(head.len()),
                false => memchr::memmem::find(&head[from..], END).map(|at| from + at + END.len()),
            };
            if let Some(end) = end {
                head.truncate(end);
                self.keep.set(Keep::Whole);
                return;
            }
            if head.len() > LONGEST_HEAD {
                self.keep.set(Keep::Off);
                return;
            }
            if n == 0 {
                return;
            }
        }
    }
}

/// A connection to a backend, watched.
pub struct UpstreamIo {
    socket: Socket,
    wire: Rc<Wire>,
    /// For HTTP/1.
    strict: Option<Strict>,
}

impl UpstreamIo {
    /// HTTP/1 is read strictly from it.
    pub fn http1(socket: Socket, wire: Rc<Wire>) -> Self {
        Self { socket, wire, strict: Some(Strict::new()) }
    }

    /// Everything is read as it comes.
    pub fn plain(socket: Socket, wire: Rc<Wire>) -> Self {
        Self { socket, wire, strict: None }
    }

    pub fn into_socket(self) -> Socket {
        self.socket
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.wire.answered.set(true);
            // What comes before a byte of the request was written does not answer it.
            if let Some(strict) = &mut self.strict
                && self.wire.written.get()
                && let Some(asked) = self.wire.asked.take()
            {
                strict.expect(asked);
            }
        }
        result
    }

    /// Reads until there is something that the codec may have.
    fn poll_strict(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            let Some(strict) = &mut self.strict else { return self.poll_bytes(cx, buf) };
            let next = strict.next(buf);
            match next {
                Next::Done => return Poll::Ready(Ok(())),
                Next::Wrong(flaw) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, flaw.text());
                    return Poll::Ready(Err(error));
                }
                Next::Read => {
                    std::task::ready!(self.poll_bytes(cx, buf))?;
                    let Some(strict) = &mut self.strict else { return Poll::Ready(Ok(())) };
                    // Nothing new: the end.
                    if buf.filled().len() == before {
                        return Poll::Ready(Ok(()));
                    }
                    let fine = strict.took(buf, before);
                    self.wire.flaw.set(strict.flaw());
                    if fine {
                        return Poll::Ready(Ok(()));
                    }
                }
                Next::ReadAside => {
                    let mut aside = [0; ASIDE];
                    let mut aside = ReadBuf::new(&mut aside);
                    std::task::ready!(self.poll_bytes(cx, &mut aside))?;
                    let Some(strict) = &mut self.strict else { return Poll::Ready(Ok(())) };
                    if aside.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    strict.hold(aside.filled());
                    self.wire.flaw.set(strict.flaw());
                }
            }
        }
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_strict(cx, buf)
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write(cx, buf) {
            Poll::Ready(Ok(n)) => {
                self.wire.wrote(&[buf], n);
                Poll::Ready(Ok(n))
            }
            Poll::Pending => {
                self.wire.blocked.set(true);
                Poll::Pending
            }
            Poll::Ready(Err(error)) => self.wire.failed(error, buf.len()),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write_vectored(cx, bufs) {
            Poll::Ready(Ok(n)) => {
                // The head is at the front; what does not fit into these few is body.
                let mut parts: [&[u8]; 4] = [&[]; 4];
                for (part, buf) in parts.iter_mut().zip(bufs) {
                    *part = buf;
                }
                self.wire.wrote(&parts, n);
                Poll::Ready(Ok(n))
            }
            Poll::Pending => {
                self.wire.blocked.set(true);
                Poll::Pending
            }
            Poll::Ready(Err(error)) => {
                self.wire.failed(error, bufs.iter().map(|buf| buf.len()).sum())
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Socket::Plain(_) = self.socket {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Pending => {
                // What TLS made of a write that was taken.
                self.wire.blocked.set(true);
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                self.wire.blocked.set(false);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => self.wire.failed(error, 0).map(|result| result.map(drop)),
        }
    }

    /// Does nothing: whoever takes the socket back decides whether it is closed or relayed.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_kept_across_split_writes_and_without_the_body() {
        let wire = Wire::default();
        wire.begin(true, false, Asked::default());
        wire.wrote(&[b"GET / HTTP/1.1\r\nhost: a\r"], 24);
        wire.wrote(&[b"\n\r", b"\nbody"], 5);
        assert!(wire.written());
        assert_eq!(wire.take_head().as_deref(), Some(&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..]));
        assert_eq!(wire.take_head(), None);
    }

    #[test]
    fn a_head_without_a_body_ends_with_the_last_write() {
        let wire = Wire::default();
        wire.begin(true, true, Asked::default());
        wire.wrote(&[b"GET / HTTP/1.1\r\n"], 16);
        wire.wrote(&[b"host: a\r\n\r\n"], 11);
        assert_eq!(wire.take_head().as_deref(), Some(&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..]));
    }

    #[test]
    fn only_what_was_written_is_kept() {
        let wire = Wire::default();
        wire.begin(true, false, Asked::default());
        wire.wrote(&[b"GET / HTTP/1.1\r\n", b"\r\n"], 16);
        assert_eq!(wire.take_head(), None);
        wire.begin(true, false, Asked::default());
        wire.wrote(&[b"GET / HTTP/1.1\r\n", b"\r\n"], 18);
        assert!(wire.take_head().is_some());
    }

    #[test]
    fn a_head_that_is_too_long_or_not_asked_for_is_not_kept() {
        let wire = Wire::default();
        wire.begin(true, false, Asked::default());
        let long = vec![b'a'; LONGEST_HEAD + 1];
        wire.wrote(&[&long], long.len());
        wire.wrote(&[b"\r\n\r\n"], 4);
        assert_eq!(wire.take_head(), None);
        wire.begin(false, false, Asked::default());
        wire.wrote(&[b"GET / HTTP/1.1\r\n\r\n"], 18);
        assert_eq!(wire.take_head(), None);
        assert!(wire.written());
    }
}
