//! One request on its stream, until the head of its answer is there.
//!
//! Whoever sends it polls it: no task runs beside it. Only a body that is still being sent when its answer begins gets
//! one, so that neither waits for the other. Dropped before that, the stream is reset.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;

use crate::framing::Flaw;
use crate::http2::{Sending, Tunnel};
use crate::upstream::body::RequestBody;
use crate::upstream::conn::{Lost, SendError};
use crate::websocket;

use super::body::Body;
use super::{Exchanged, Multiplexed, request};

const MALFORMED: &str = "it is not valid HTTP/2";
/// Informational answers (1xx) before the one that counts, and their bytes as RFC 9113 §6.5.2 counts them.
const INFORMATIONAL: u8 = 100;
const INFORMATIONAL_BYTES: usize = 64 * 1024;

/// See the module.
pub(super) struct Exchange {
    exchanged: Rc<Exchanged>,
    answer: ResponseFuture,
    up: Up,
    head: bool,
    /// Informational answers so far, and their bytes.
    informational: (u8, usize),
}

/// What goes to the backend.
enum Up {
    Body(Sending<RequestBody>),
    /// Of an extended CONNECT: what comes after its answer.
    Tunnel(SendStream<Bytes>),
    /// All of it was sent, or the backend takes no more.
    Over,
}

impl Exchange {
    /// Begins to send a request; one that asks for a tunnel if it is a CONNECT.
    pub(super) fn begin(
        of: &Multiplexed,
        exchanged: &Rc<Exchanged>,
        mut request: Request<RequestBody>,
    ) -> Result<Self, SendError> {
        let Some(mut sender) = of.sender() else {
            return Err(SendError::Unsent(Box::new(request.into())));
        };
        request::prepare(&mut request, of.secure);
        let (head, connect) =
            (*request.method() == Method::HEAD, *request.method() == Method::CONNECT);
        let (parts, body) = request.into_parts();
        let ends = !connect && body.is_end_stream();
        let sent = sender.send_request(Request::from_parts(parts, ()), ends);
        let (answer, stream) = sent.map_err(|error| not_answered(&error))?;
        let up = match (connect, ends) {
            (true, _) => Up::Tunnel(stream),
            (false, true) => Up::Over,
            (false, false) => Up::Body(Sending::new(body, stream)),
        };
        Ok(Self { exchanged: exchanged.clone(), answer, up, head, informational: (0, 0) })
    }

    /// The answer to an extended CONNECT, as HTTP/1.1 has it.
    pub(super) async fn opening(mut self, key: HeaderValue) -> Result<Response<Body>, SendError> {
        let response = poll_fn(|cx| self.poll_head(cx)).await?;
        let Up::Tunnel(mut sender) = std::mem::replace(&mut self.up, Up::Over) else {
            return Ok(Body::of(response, false));
        };
        if response.status() != StatusCode::OK {
            // What would have been carried is not to come.
            let _ = sender.send_data(Bytes::new(), true);
            return Ok(Body::of(response, false));
        }
        let (mut head, received) = response.into_parts();
        if head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0") {
            sender.send_reset(Reason::INTERNAL_ERROR);
            return Err(SendError::Sent(Lost::NotHttp("it accepts a WebSocket with a body")));
        }
        *self.exchanged.tunnel.borrow_mut() = Some(Tunnel::new(sender, received));
        websocket::accepted(&mut head.status, &mut head.headers, &key);
        Ok(Response::from_parts(head, Body::none()))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, SendError>> {
        if let Up::Body(sending) = &mut self.up
            && sending.poll(cx).is_ready()
        {
            // What is wrong where something is, the answer says.
            self.up = Up::Over;
        }
        while let Some(said) = ready!(self.answer.poll_informational(cx)) {
            let said = said.map_err(|error| not_answered(&error))?;
            self.said(said).map_err(|why| SendError::Sent(Lost::NotHttp(why)))?;
        }
        Pin::new(&mut self.answer).poll(cx).map_err(|error| not_answered(&error))
    }

    /// Puts an informational answer aside.
    #[cold]
    fn said(&mut self, head: Response<()>) -> Result<(), &'static str> {
        let (count, bytes) = &mut self.informational;
        *count += 1;
        *bytes += size(&head);
        if *count > INFORMATIONAL || *bytes > INFORMATIONAL_BYTES {
            return Err(Flaw::Informational.text());
        }
        match head.status() {
            // RFC 9113 §8.6
            StatusCode::SWITCHING_PROTOCOLS => return Err(MALFORMED),
            // It says something about our own sending only.
            StatusCode::CONTINUE => {}
            _ => self.exchanged.interim.borrow_mut().push(head),
        }
        Ok(())
    }

    /// The answer begins before the request has ended: from now on each goes on by itself.
    #[cold]
    fn send_rest(&self, mut sending: Sending<RequestBody>) {
        let task = tokio::task::spawn_local(poll_fn(move |cx| sending.poll(cx)));
        self.exchanged.uploader.set(Some(task.abort_handle()));
    }
}

impl Future for Exchange {
    type Output = Result<Response<Body>, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.poll_head(cx))?;
        if let Up::Body(sending) = std::mem::replace(&mut self.up, Up::Over) {
            self.send_rest(sending);
        }
        Poll::Ready(Ok(Body::of(response, self.head)))
    }
}

fn size(head: &Response<()>) -> usize {
    let fields = head.headers().iter();
    32 + fields.map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>()
}

fn not_answered(error: &h2::Error) -> SendError {
    let refused = error.reason() == Some(Reason::REFUSED_STREAM);
    // The backend has not looked at the request.
    if refused || (error.is_go_away() && error.is_remote()) {
        return SendError::Refused;
    }
    SendError::Sent(match error.is_library() {
        true => Lost::NotHttp(MALFORMED),
        false => Lost::Broken,
    })
}
