//! The socket of a client, with or without TLS, and what its owner must know of it: whether
//! bytes came since, whether a write would block, whether the peer closed its side.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::framing::Wrong;
use crate::http::interim::Interim;
use crate::snapshot::ListenerView;
use crate::tls::clients::ClientCertificate;

use super::strict::{Next, Strict};

/// Pieces of so many bytes in all are copied together to be written: send(2) of one piece costs the kernel less than
/// writev(2) of several, 1 % of what a small request costs.
const SMALL: usize = 4096;
/// Read at once of what has to be held back.
const ASIDE: usize = 2048;

/// A client's connection below HTTP.
pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a client has shown of itself in the handshake, on listeners that ask for certificates.
#[derive(Debug)]
pub struct Proven {
    pub certificate: Option<ClientCertificate>,
    /// The name that it asked for, in lower case.
    pub server_name: Option<Box<str>>,
}

impl Transport {
    /// `None` where certificates are not asked for.
    pub fn proven(&self, view: &ListenerView) -> Option<Box<Proven>> {
        let asks = view.config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let Self::Tls(tls) = self else { return None };
        asks.then(|| {
            let (_, session) = tls.get_ref();
            let shown = session.peer_certificates().and_then(<[_]>::first);
            Box::new(Proven {
                certificate: shown.and_then(ClientCertificate::of),
                server_name: session.server_name().map(|name| name.to_ascii_lowercase().into()),
            })
        })
    }
}

/// What the stream notes for the task that drives it.
#[derive(Debug, Default)]
pub struct Notes {
    /// The socket, which is open as long as its connection is served.
    pub socket: Cell<Option<RawFd>>,
    /// Bytes were read since this was last taken.
    pub read: Cell<bool>,
    /// The last read found nothing.
    pub waiting: Cell<bool>,
    /// A write would block.
    pub blocked: Cell<bool>,
    /// Grows with every write that took something.
    pub progress: Cell<u32>,
    /// The peer closed its sending side.
    pub ended: Cell<bool>,
    /// What the peer sent next is no request.
    pub wrong: Cell<Option<Wrong>>,
    /// HTTP/2: part of a request's head has come, or of the preface.
    pub in_head: Cell<bool>,
    /// HTTP/2: requests may have been taken back already; see [`super::frames`].
    pub hasty: Cell<bool>,
    /// Set when a request for another protocol is answered otherwise.
    pub stays: Cell<bool>,
    /// HTTP/1: what the client gets before the answer to its request.
    pub interim: Interim,
}

/// A transport that takes notes.
pub struct ClientStream {
    pub transport: Transport,
    pub notes: Rc<Notes>,
    /// Read already, to be read again first.
    put_back: Bytes,
    strict: Option<Strict>,
    /// HTTP/2 closes the stream itself; the HTTP/1 server hands it back first.
    pub closes_itself: bool,
}

impl Notes {
    /// While a write would block: a number that changes when the peer has read something.
    pub fn stalled(&self) -> Option<u32> {
        self.blocked.get().then(|| self.progress.get())
    }

    /// Whether the codec has taken all there was to read, and written all it had to write.
    pub fn is_quiet(&self) -> bool {
        self.waiting.get() && !self.read.get() && !self.blocked.get()
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(_)) => {
                self.blocked.set(false);
                self.progress.set(self.progress.get().wrapping_add(1));
            }
            Poll::Ready(Err(_)) => self.blocked.set(false),
            Poll::Pending => self.blocked.set(true),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.strict.is_some() {
            true => self.poll_strict(cx, buf),
            false => self.poll_bytes(cx, buf),
        }
    }
}

fn is_small(bufs: &[IoSlice<'_>]) -> bool {
    bufs.len() > 1 && bufs.iter().map(|buf| buf.len()).sum::<usize>() <= SMALL
}

impl ClientStream {
    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.put_back.is_empty() {
            let n = self.put_back.len().min(buf.remaining());
            buf.put_slice(&self.put_back.split_to(n));
            if self.put_back.is_empty() {
                // An empty remainder would still hold the whole buffer.
                self.put_back = Bytes::new();
            }
            self.notes.read.set(true);
            self.notes.waiting.set(false);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        self.notes.waiting.set(result.is_pending());
        if let Poll::Ready(Ok(())) = &result {
            if buf.filled().len() > before {
                self.notes.read.set(true);
            } else {
                self.notes.ended.set(true);
            }
        }
        result
    }

    /// Reads until there is something that the codec may have.
    fn poll_strict(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            let Some(strict) = &mut self.strict else { return Poll::Pending };
            if self.notes.stays.take() {
                strict.stays();
            }
            match strict.next(buf) {
                Next::Done => return Poll::Ready(Ok(())),
                Next::Nothing => {
                    self.notes.wrong.set(strict.wrong());
                    return strict.refusal();
                }
                Next::Read => {
                    ready!(self.poll_bytes(cx, buf))?;
                    let Some(strict) = &mut self.strict else { return Poll::Pending };
                    // Nothing new: the end.
                    if buf.filled().len() == before || strict.took(buf, before) {
                        return Poll::Ready(Ok(()));
                    }
                }
                Next::ReadAside => {
                    let mut aside = [0; ASIDE];
                    let mut aside = ReadBuf::new(&mut aside);
                    let read = self.poll_bytes(cx, &mut aside);
                    let Some(strict) = &mut self.strict else { return Poll::Pending };
                    if read.is_pending() && strict.is_in_head() {
                        // Its deadline goes on, whatever was done meanwhile.
                        self.notes.read.set(true);
                    }
                    ready!(read)?;
                    if aside.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    strict.hold(aside.filled());
                }
            }
        }
    }
}

impl ClientStream {
    /// Writes what the client gets before its answer.
    #[cold]
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { transport, notes, .. } = self;
        while !notes.interim.is_empty() {
            let result = {
                let bytes = notes.interim.bytes();
                match transport {
                    Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, &bytes),
                    Transport::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, &bytes),
                }
            };
            notes.wrote(&result);
            match ready!(result)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => notes.interim.written(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.notes.interim.is_begun() {
            ready!(self.poll_interim(cx))?;
        }
        let result = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        };
        self.notes.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.notes.interim.is_begun() {
            ready!(self.poll_interim(cx))?;
        }
        let result = match &mut self.transport {
            Transport::Plain(tcp) if is_small(bufs) => {
                let mut whole = SmallVec::<[u8; SMALL]>::new();
                bufs.iter().for_each(|buf| whole.extend_from_slice(buf));
                Pin::new(tcp).poll_write(cx, &whole)
            }
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        self.notes.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    /// The codec has nothing left to write at this moment.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.notes.interim.is_empty() {
            ready!(self.poll_interim(cx))?;
        }
        let result = match &mut self.transport {
            Transport::Plain(_) => return Poll::Ready(Ok(())),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        };
        if result.is_pending() {
            self.notes.blocked.set(true);
        } else {
            self.notes.blocked.set(false);
        }
        result
    }

    /// Does nothing unless `closes_itself`: the task that takes the stream back closes it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closes_itself { self.poll_close(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl ClientStream {
    pub fn new(transport: Transport) -> Self {
        Self {
            transport,
            notes: Rc::default(),
            put_back: Bytes::new(),
            strict: None,
            closes_itself: false,
        }
    }

    /// From now on only whole and proper HTTP/1 requests are read, with heads of so many bytes at most.
    pub fn make_strict(&mut self, head_bytes: usize) {
        self.strict = Some(Strict::new(head_bytes));
        self.notes.socket.set(Some(self.tcp().as_raw_fd()));
    }

    /// From now on everything is read as it comes; what was held back until now.
    pub fn make_plain(&mut self) -> Vec<u8> {
        self.strict.take().map(Strict::into_held).unwrap_or_default()
    }

    /// Bytes that were read too early; they are read again before any others.
    pub fn put_back(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        // Nothing, of a buffer that had something once, would hold the whole buffer.
        self.put_back = if bytes.is_empty() { Bytes::new() } else { bytes };
    }

    /// Ready when a read would find something, or the end. Only to be asked when the last read
    /// found nothing: what TLS has decrypted is not seen here.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.put_back.is_empty() {
            return Poll::Ready(());
        }
        // An error is found by the read.
        self.tcp().poll_read_ready(cx).map(drop)
    }

    fn tcp(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0,
        }
    }

    /// What there is to read on a plain socket, at most so many bytes; empty if nothing yet.
    ///
    /// # Errors
    /// The socket's, and `UnexpectedEof` at the end.
    pub fn try_read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let Transport::Plain(tcp) = &self.transport else { return Ok(Vec::new()) };
        let mut bytes = Vec::with_capacity(most);
        match tcp.try_read_buf(&mut bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(bytes),
            // Without the buffer.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Closes it so that the client cannot take it for the end of an answer: with a reset, and within TLS
    /// without close_notify.
    pub fn reset(self) {
        let tcp = match &self.transport {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0,
        };
        // With a linger of 0 closing is a reset (socket(7)).
        let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Closes the sending side for good: close_notify for TLS, then FIN.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
