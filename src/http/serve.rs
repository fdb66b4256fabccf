//! Serving one client connection: hyper's codec, held to the waits of [`super::watch`].

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::framing::Wrong;
use crate::listener::stream::ClientStream;
use crate::proxy;
use crate::telemetry::Flood;

use super::client::Client;
use super::closing::{close, last_words, pause};
use super::early;
use super::park;
use super::tunnel;
use super::watch::{End, Watch};

/// Of an answer for a client that reads slowly, and what is read of an upload at once; the codec may go beyond it.
const BUFFER: usize = 400 * 1024;

/// Serves HTTP/1.0 and 1.1 until the connection ends.
pub async fn http1(client: Rc<Client>, mut stream: ClientStream) {
    stream.make_strict(client.listener.config.limit.header_bytes);
    // Boxed: a task is as large as the largest thing it awaits, and most connections are parked.
    while let Some(parked) = Box::pin(requests(&client, stream)).await {
        stream = parked;
        if !park::wait(&client, &stream).await {
            return close(&client, stream, false).await;
        }
    }
}

/// Serves requests until the connection ends, or is idle and can be parked: then here it is.
async fn requests(client: &Rc<Client>, stream: ClientStream) -> Option<ClientStream> {
    let limit = &client.listener.config.limit;
    let mut builder = http1::Builder::new();
    builder.half_close(true).header_read_timeout(None).max_header_size(limit.header_bytes);
    builder.max_buf_size(BUFFER.max(2 * limit.header_bytes));
    if limit.header_count != 100 {
        // The codec keeps 100 on the stack; any other number costs an allocation a request.
        builder.max_headers(limit.header_count);
    }
    let service = service_fn(|request| proxy::handle(client.clone(), request));
    let mut codec = builder.serve_connection(TokioIo::new(stream), service);
    let mut watch = Watch::new(client, true);
    let mut floods = false;
    let end = poll_fn(|cx| match Pin::new(&mut codec).poll(cx) {
        Poll::Ready(Err(error)) => {
            if error.is_parse() {
                client.listener.stats.bad_request(None);
            }
            if error.is_parse_too_large() {
                // More headers than it may have; how long it is was looked at before.
                client.floods(Flood::LargeHead);
                floods = true;
            }
            Poll::Ready(End::Done(false))
        }
        Poll::Ready(Ok(())) => Poll::Ready(End::Done(true)),
        Poll::Pending => watch.poll(cx),
    })
    .await;
    if let (End::Done(_), Some(wrong)) = (end, client.notes.wrong.get()) {
        client.bad_request(wrong);
    }
    let parts = codec.into_parts();
    let mut stream = parts.io.into_inner();
    // While a connection lingers nothing is kept of what it sent.
    let goes_on = matches!(end, End::Park | End::Done(true));
    let rest = if goes_on { parts.read_buf } else { Bytes::new() };
    match end {
        End::Park => {
            // A head that has begun to come with the request before: its deadline counts now.
            stream.put_back(rest);
            return Some(stream);
        }
        End::Done(true) => match client.take_tunnel() {
            Some(tunnel) => {
                let mut early = BytesMut::from(rest);
                early.extend_from_slice(&stream.make_plain());
                Box::pin(tunnel::relay(client, stream, early.freeze(), tunnel)).await;
            }
            None => {
                drop(rest);
                close(client, stream, client.had_body.get()).await;
            }
        },
        End::Done(false) if client.cut.get() => stream.reset(),
        // The codec answered what it could not read; the client should get to see it.
        End::Done(false) => {
            if floods {
                pause(client).await;
            }
            close(client, stream, true).await;
        }
        End::Idle => close(client, stream, false).await,
        End::HeadTimedOut => {
            client.floods(Flood::SlowHead);
            last_words(client, stream, &early::timed_out()).await;
        }
        End::Wrong(wrong) => {
            client.bad_request(wrong);
            if wrong == Wrong::HeadTooLarge {
                pause(client).await;
            }
            last_words(client, stream, &early::wrong(wrong)).await;
        }
        End::Stalled => client.floods(Flood::SlowReader),
        // Its request went with the codec.
        End::Gone => {}
    }
    None
}
