//! The connection itself: which bytes go out, which come in, and what is known of its state.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, header};
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use crate::clock::Clock;
use crate::framing::Asked;
use crate::upstream::body::RequestBody;
use crate::upstream::conn::{AnswerBody, Lost};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::socket::Socket;
use crate::worker::timers::{Timer, Timers};

use super::body::Body;
use super::head::{Head, Reader};
use super::input::Input;
use super::output::{Framing, Output};

/// See the module.
pub(super) struct Line {
    /// Gone once it is closed, or somebody else's.
    socket: Option<Socket>,
    pub(super) input: Input,
    pub(super) output: Output,
    sending: Sending,
    /// Of a body that there is after all.
    first: Option<Frame<Bytes>>,
    reader: Reader,
    /// The exchange is over, and nothing speaks against another one.
    free: bool,
    /// Any byte of the answer came.
    pub(super) answered: bool,
    pub(super) write_timed_out: bool,
    stall: Stall,
}

/// What is still to be made of the request.
enum Sending {
    /// The request's method has no body as a rule, and nothing says that this one has: the client's next word tells.
    Perhaps(RequestBody),
    Body(RequestBody, Framing),
    /// The rest of it is in the output.
    Whole,
    /// All of it was sent, or the backend takes no more.
    Over,
}

impl Line {
    pub(super) fn new(
        socket: Socket,
        write_timeout: Duration,
        timers: Rc<Timers>,
        clock: Clock,
    ) -> Self {
        Self {
            socket: Some(socket),
            input: Input::default(),
            output: Output::default(),
            sending: Sending::Over,
            first: None,
            reader: Reader::default(),
            free: true,
            answered: false,
            write_timed_out: false,
            stall: Stall { timers, clock, timer: None, timeout: write_timeout },
        }
    }

    /// A new request is to be sent. It comes back if it has no body: as long as nothing was sent, it is not lost.
    pub(super) fn begin(
        &mut self,
        request: Box<Outgoing>,
        keep: bool,
        upgrade: bool,
    ) -> Option<Box<Outgoing>> {
        let framing = framing(&request);
        let perhaps = framing == Some(Framing::Chunked)
            && request.method().is_safe()
            && !request.headers().contains_key(header::TRANSFER_ENCODING);
        self.output.begin(&request, framing.filter(|_| !perhaps), keep);
        self.first = None;
        let asked = Asked { head: *request.method() == Method::HEAD, upgrade };
        self.reader.begin(asked);
        (self.free, self.answered) = (false, false);
        match framing {
            Some(_) if perhaps => {
                self.sending = Sending::Perhaps(request.request.into_body());
                None
            }
            Some(framing) => {
                self.sending = Sending::Body(request.request.into_body(), framing);
                None
            }
            None => {
                self.sending = Sending::Whole;
                Some(request)
            }
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        !matches!(self.sending, Sending::Over)
    }

    /// Whether the exchange is over and leaves no doubt.
    pub(super) fn is_over(&self) -> bool {
        self.free && !self.is_sending() && self.input.bytes.is_empty()
    }

    /// Whether another request may be sent on it.
    pub(super) fn is_free(&mut self) -> bool {
        self.is_over() && self.socket.as_mut().is_some_and(Socket::is_quiet)
    }

    /// The body of the answer was read to its end. `reusable`: the backend keeps the connection.
    pub(super) fn answered_whole(&mut self, reusable: bool) {
        self.free = reusable;
    }

    /// Sends the request. Ready once all of it is sent, or the backend takes no more of it.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if let Sending::Perhaps(body) = &mut self.sending {
            let first = ready!(Pin::new(&mut *body).poll_frame(cx));
            let body = std::mem::take(body);
            self.first = first.transpose().map_err(|_| Lost::Broken)?;
            self.sending = match self.first {
                Some(_) => {
                    self.output.chunked();
                    Sending::Body(body, Framing::Chunked)
                }
                None => Sending::Whole,
            };
        }
        loop {
            let mut waits = false;
            if self.output.has_room() {
                match self.poll_pull(cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => waits = true,
                }
            }
            let Some(socket) = &mut self.socket else { return Poll::Ready(Err(Lost::Broken)) };
            if !self.output.is_sent() {
                match self.output.poll_write(socket, cx) {
                    Poll::Ready(Ok(_)) => self.stall.moved(),
                    Poll::Ready(Err(error)) => return Poll::Ready(self.write_failed(&error)),
                    Poll::Pending => return self.poll_stall(cx),
                }
                let more = !waits && matches!(self.sending, Sending::Body(..));
                if more || !self.output.is_sent() {
                    continue;
                }
            }
            // What TLS made of it.
            match Pin::new(socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(self.write_failed(&error)),
                Poll::Pending => return self.poll_stall(cx),
            }
            if waits {
                return Poll::Pending;
            }
            if matches!(self.sending, Sending::Whole) {
                self.sending = Sending::Over;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// The next piece of the body goes into the output, if there is one.
    fn poll_pull(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let Sending::Body(body, framing) = &mut self.sending else { return Poll::Ready(Ok(())) };
        loop {
            let frame = match self.first.take() {
                Some(first) => Some(Ok(first)),
                None => ready!(Pin::new(&mut *body).poll_frame(cx)),
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Poll::Ready(Err(Lost::Broken)),
                None => {
                    match framing {
                        Framing::Chunked => self.output.end(None),
                        Framing::Length(0) => {}
                        // The client sent less than it said; the backend must not take that for all.
                        Framing::Length(_) => return Poll::Ready(Err(Lost::Broken)),
                    }
                    self.sending = Sending::Whole;
                    return Poll::Ready(Ok(()));
                }
            };
            match frame.into_data() {
                // An empty chunk would be the end.
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if let Framing::Length(left) = framing {
                        let Some(less) = left.checked_sub(data.len() as u64) else {
                            return Poll::Ready(Err(Lost::Broken));
                        };
                        *left = less;
                    }
                    let last = body.is_end_stream() && !matches!(framing, Framing::Length(1..));
                    self.output.data(data, *framing, last);
                    if last {
                        self.sending = Sending::Whole;
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().ok();
                    if let (Framing::Chunked, Some(trailers)) = (*framing, trailers) {
                        self.output.end(Some(&trailers));
                        self.sending = Sending::Whole;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        ready!(self.stall.poll(cx));
        self.write_timed_out = true;
        Poll::Ready(Err(Lost::Broken))
    }

    /// A backend that answers before it has read the request, and closes, breaks our writes while its answer
    /// waits to be read (RFC 9112 §9.6). So the rest of a request that it has begun to get is left
    /// out, and reading finds the answer, or the end.
    fn write_failed(&mut self, error: &io::Error) -> Result<(), Lost> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        if self.output.has_begun() && matches!(error.kind(), BrokenPipe | ConnectionReset) {
            self.give_up_sending();
            return Ok(());
        }
        Err(Lost::Broken)
    }

    /// Nothing more is sent, of this request or of another.
    pub(super) fn give_up_sending(&mut self) {
        self.sending = Sending::Over;
        self.reader.last = true;
    }

    /// A request without a body has begun to be sent.
    pub(super) fn has_sent(&mut self, mut request: Box<Outgoing>) {
        self.reader.reuse(request.headers_mut());
    }

    /// The head of the answer, once it is there.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Lost>> {
        loop {
            if let Some(head) = self.reader.read(&mut self.input.bytes).map_err(Lost::NotHttp)? {
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_fill(cx)).unwrap_or(0) == 0 {
                return Poll::Ready(Err(Lost::Broken));
            }
            self.answered = true;
        }
    }

    /// The answer of that head, with its body. Boxed, as many hands pass it on.
    pub(super) fn answer(&mut self, head: &Head, body: Body) -> Box<Response<AnswerBody>> {
        let mut response = Box::new(Response::new(AnswerBody::Http1(body)));
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        std::mem::swap(response.headers_mut(), &mut self.reader.fields);
        response
    }

    /// What the backend said before its answer, once.
    pub(super) fn take_interim(&mut self) -> Vec<Response<()>> {
        std::mem::take(&mut self.reader.interim)
    }

    /// Reads more into the input. 0: the backend has ended.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Some(socket) => self.input.poll_fill(socket, cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// It is idle: it holds on to nothing large.
    pub(super) fn rest(&mut self) {
        self.input.rest();
        self.output.rest();
        self.stall.timer = None;
    }

    pub(super) fn take_socket(&mut self) -> Option<(Socket, Bytes)> {
        let early = self.input.bytes.split().freeze();
        self.socket.take().map(|socket| (socket, early))
    }

    pub(super) fn close(&mut self) {
        self.socket = None;
        self.sending = Sending::Over;
        self.free = false;
    }

    /// Whether the connection ends with this answer.
    pub(super) fn is_last(&self) -> bool {
        self.reader.last
    }
}

/// How the body is framed: as the request says, or in chunks where it says nothing of its length. `None`: it has none.
fn framing(request: &Outgoing) -> Option<Framing> {
    if request.body().is_end_stream() {
        return None;
    }
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    Some(length.map_or(Framing::Chunked, Framing::Length))
}

/// The write timeout: counts from the last write that took something, while the next would block.
struct Stall {
    timers: Rc<Timers>,
    clock: Clock,
    /// Made when a write first blocks; whether it runs.
    timer: Option<(Timer, bool)>,
    timeout: Duration,
}

impl Stall {
    fn moved(&mut self) {
        if let Some((timer, armed)) = &mut self.timer
            && std::mem::take(armed)
        {
            timer.disarm();
        }
    }

    #[cold]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (timer, armed) = self.timer.get_or_insert_with(|| (self.timers.timer(), false));
        if !std::mem::replace(armed, true) {
            timer.arm_in(self.clock.now(), self.timeout);
        }
        timer.poll_expired(cx)
    }
}
