//! One request: its stream from the first byte to the last of the answer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::{Body, Frame};
use quinn::{RecvStream, SendStream, VarInt};

use crate::http::client::Client;
use crate::http::fault::Fault;
use crate::http::{date, early};
use crate::proxy;
use crate::proxy::body::{RelayError, ResponseBody};
use crate::telemetry::Flood;
use crate::upstream::received::{Expects, Received};

use super::answer::{Answer, Gone};
use super::body::{Notes, RequestBody};
use super::code;
use super::connection::Connection;
use super::frame::{self, BadStream, Frames, Header};
use super::head::{self, BadHead, Head};

/// Why there is no request.
enum NoRequest {
    /// The client reset it or is gone.
    Gone,
    /// It is answered.
    Fault(Fault),
    /// It is reset.
    Stream(VarInt),
    /// The connection is closed.
    Connection(VarInt),
}

/// Serves a stream to its end.
pub async fn serve(connection: Rc<Connection>, stream: (SendStream, RecvStream)) {
    let client = connection.client.clone();
    let mut answer = Answer::new(stream.0, connection.clone());
    let mut frames = Frames::new(stream.1);
    let timer = client.worker.timers.timer();
    let limit = client.listener.config.timeout.header;
    let reading = timer.within(client.worker.now(), limit, read(&client, &mut frames));
    let read = reading.await.unwrap_or_else(|| {
        client.floods(Flood::SlowHead);
        Err(NoRequest::Fault(Fault::RequestTimeout))
    });
    drop(timer);
    match read {
        Ok((head, first)) => answer_to(&connection, answer, frames, head, first).await,
        Err(NoRequest::Gone) => {
            connection.note(Flood::RapidReset);
            answer.reset(code::REQUEST_CANCELLED);
        }
        Err(NoRequest::Fault(fault)) => {
            client.listener.stats.bad_request(None);
            if matches!(fault, Fault::HeadTooLarge) {
                client.floods(Flood::LargeHead);
            }
            frames.stop(code::NO_ERROR);
            if refuse(&client, &mut answer, &fault).await.is_ok() {
                answer.finish().await;
            }
        }
        Err(NoRequest::Stream(why)) => {
            client.listener.stats.bad_request(None);
            connection.note(Flood::MadeYouReset);
            frames.stop(why);
            answer.reset(why);
        }
        Err(NoRequest::Connection(why)) => {
            client.listener.stats.bad_request(None);
            connection.close(why);
        }
    }
}

/// The head, and what comes next, if that was waited for.
type Read = (Head, Option<Next>);

/// What comes after a head, if that was waited for.
enum Next {
    End,
    Frame(Header),
}

async fn read(client: &Client, frames: &mut Frames) -> Result<Read, NoRequest> {
    let most = client.listener.config.limit.header_bytes;
    let length = loop {
        let header = poll_fn(|cx| frames.poll_header(cx)).await?;
        match header {
            None => return Err(NoRequest::Stream(code::REQUEST_INCOMPLETE)),
            Some(Header { kind: frame::HEADERS, length }) => break length,
            Some(Header { kind, .. }) if is_known(kind) => {
                return Err(NoRequest::Connection(code::FRAME_UNEXPECTED));
            }
            Some(_) => poll_fn(|cx| frames.poll_skip(cx)).await?,
        }
    };
    if length > most as u64 {
        return Err(NoRequest::Fault(Fault::HeadTooLarge));
    }
    let mut section = BytesMut::new();
    while let Some(piece) = poll_fn(|cx| frames.poll_payload(cx, usize::MAX)).await? {
        section.extend_from_slice(&piece);
    }
    let head = head::request(&section, most).map_err(|bad| match bad {
        BadHead::TooLarge => NoRequest::Fault(Fault::HeadTooLarge),
        BadHead::TargetTooLong => NoRequest::Fault(Fault::UriTooLong),
        BadHead::Malformed(why) => {
            tracing::debug!(listener = &*client.listener.config.name, "malformed request: {why}");
            NoRequest::Stream(code::MESSAGE_ERROR)
        }
        BadHead::Undecodable => NoRequest::Connection(code::QPACK_DECOMPRESSION),
    })?;
    if !waits(&head) {
        return Ok((head, None));
    }
    let next = poll_fn(|cx| frames.poll_header(cx)).await?;
    Ok((head, Some(next.map_or(Next::End, Next::Frame))))
}

/// A head is often sent apart from what follows. That is waited for where a body is not to be expected, as a
/// backend would get one that is empty but has to be framed; and where its length was said, so that nothing
/// is passed on if it is wrong from the start.
fn waits(head: &Head) -> bool {
    let method = head.request.method();
    let rarely = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE, Method::TRACE];
    match head.length {
        Some(_) => !head.request.headers().contains_key(header::EXPECT),
        None => rarely.contains(method),
    }
}

fn is_known(kind: u64) -> bool {
    frame::is_reserved(kind)
        || matches!(
            kind,
            frame::DATA
                | frame::CANCEL_PUSH
                | frame::SETTINGS
                | frame::PUSH_PROMISE
                | frame::GOAWAY
                | frame::MAX_PUSH_ID
        )
}

impl From<BadStream> for NoRequest {
    fn from(bad: BadStream) -> Self {
        match bad {
            BadStream::Gone => Self::Gone,
            BadStream::CutShort => Self::Connection(code::FRAME_ERROR),
        }
    }
}

/// An answer to what never became a request.
async fn refuse(client: &Client, answer: &mut Answer, fault: &Fault) -> Result<(), Gone> {
    let (mut head, body) = early::refusal(fault).into_parts();
    head.headers.remove(header::CONNECTION);
    date::complete(&mut head.headers, &client.worker.clock);
    if !answer.takes(&head.headers) {
        return Err(Gone::Stopped);
    }
    answer.head(head.status, &head.headers).await?;
    answer.data(body).await
}

/// Has the request answered.
async fn answer_to(
    connection: &Connection,
    mut answer: Answer,
    frames: Frames,
    Head { request, length }: Head,
    next: Option<Next>,
) {
    let client = connection.client.clone();
    let notes = Rc::new(Notes { expects: Expects::of(request.headers()), ..Notes::default() });
    let most = client.listener.config.limit.header_bytes;
    let mut body = RequestBody::new(frames, length, most, notes.clone());
    match next {
        None => {}
        Some(Next::End) => body.ended(),
        Some(Next::Frame(header)) => body.begun(header),
    }
    let outcome = match notes.wrong.get() {
        // Known to be wrong before anything of it was passed on.
        Some(_) => Err(Unfinished::Client(Gone::Stopped)),
        None => {
            let request = request.map(|()| Received::Other(Box::pin(body)));
            relay(&client, &mut answer, notes.clone(), request).await
        }
    };
    if notes.wrong.get().is_some() {
        client.listener.stats.bad_request(None);
    }
    match (outcome, notes.wrong.get()) {
        (_, Some((true, why))) => connection.close(why),
        (Ok(()), _) => answer.finish().await,
        (Err(_), Some((false, why))) => {
            connection.note(Flood::MadeYouReset);
            answer.reset(why);
        }
        (Err(Unfinished::Client(gone)), None) => {
            match gone {
                Gone::Stopped => connection.note(Flood::RapidReset),
                Gone::Stalled => client.floods(Flood::StalledStream),
            }
            answer.reset(code::REQUEST_CANCELLED);
        }
        (Err(Unfinished::Backend), None) => answer.reset(code::INTERNAL),
    }
}

/// An answer that does not get complete, by whose fault.
enum Unfinished {
    Client(Gone),
    Backend,
}

impl From<Gone> for Unfinished {
    fn from(gone: Gone) -> Self {
        Self::Client(gone)
    }
}

/// From a request to the last byte of its answer, or until the client does not want it any more.
async fn relay(
    client: &Rc<Client>,
    answer: &mut Answer,
    notes: Rc<Notes>,
    request: http::Request<Received>,
) -> Result<(), Unfinished> {
    let mut stopped = pin!(answer.stopped());
    let response = {
        let mut handling = pin!(proxy::handle(client.clone(), request));
        let mut answered = None;
        let mut said = VecDeque::new();
        let mut expects = notes.expects.as_ref();
        loop {
            let step = poll_fn(|cx| {
                if answered.is_none() {
                    if let Poll::Ready(response) = handling.as_mut().poll(cx) {
                        answered = Some(response);
                    }
                    // Streams of a worker are polled one at a time, so what was said now is this one's.
                    said.extend(client.take_said());
                }
                if let Some(head) = said.pop_front() {
                    return Poll::Ready(Step::Interim(head));
                }
                if let Some(response) = answered.take() {
                    return Poll::Ready(Step::Answered(response));
                }
                if expects.is_some_and(|expects| expects.poll_read(cx).is_ready()) {
                    expects = None;
                    return Poll::Ready(Step::Continue);
                }
                stopped.as_mut().poll(cx).map(|()| Step::Stopped)
            });
            match step.await {
                Step::Answered(Ok(response)) => break response,
                Step::Answered(Err(never)) => match never {},
                Step::Interim(head) if !answer.takes(head.headers()) => {}
                Step::Interim(head) => answer.head(head.status(), head.headers()).await?,
                Step::Continue => answer.head(StatusCode::CONTINUE, &HeaderMap::new()).await?,
                Step::Stopped => return Err(Gone::Stopped.into()),
            }
        }
    };
    let (head, body) = response.into_parts();
    let mut body = pin!(body);
    let mut headers = head.headers;
    date::complete(&mut headers, &client.worker.clock);
    if !body.is_end_stream()
        && let Some(length) = body.size_hint().exact()
        && !headers.contains_key(header::CONTENT_LENGTH)
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !answer.takes(&headers) {
        // RFC 9209 §2.3.19: what a client would refuse is not sent.
        let refused = refuse(client, answer, &Fault::AnswerHeadTooLarge).await;
        return refused.map_err(|_| Unfinished::Backend);
    }
    answer.head(head.status, &headers).await?;
    while !body.is_end_stream() {
        let frame = poll_fn(|cx| poll_frame(body.as_mut(), stopped.as_mut(), cx)).await;
        match frame {
            None => break,
            Some(Err(whose)) => return Err(whose),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => answer.data(data).await?,
                Err(frame) => {
                    if let Ok(fields) = frame.into_trailers() {
                        if !answer.takes(&fields) {
                            return Err(Unfinished::Backend);
                        }
                        answer.trailers(&fields).await?;
                    }
                }
            },
        }
    }
    Ok(())
}

enum Step {
    Answered(Result<Response<ResponseBody>, std::convert::Infallible>),
    /// Something that comes before the answer.
    Interim(Response<()>),
    /// The body is wanted now.
    Continue,
    Stopped,
}

/// The next of an answer's body; an error also when the client wants no more.
fn poll_frame(
    body: Pin<&mut ResponseBody>,
    stopped: Pin<&mut impl Future<Output = ()>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
    match body.poll_frame(cx) {
        Poll::Ready(frame) => {
            Poll::Ready(frame.map(|frame| frame.map_err(|_: RelayError| Unfinished::Backend)))
        }
        Poll::Pending => {
            ready!(stopped.poll(cx));
            Poll::Ready(Some(Err(Gone::Stopped.into())))
        }
    }
}
