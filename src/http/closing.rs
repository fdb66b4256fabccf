//! The end of a client's connection: what is said last gets to the client.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use crate::listener::stream::{ClientStream, Transport};

use super::client::Client;

/// After an answer to a request that was not read to its end, the rest is read and thrown away
/// for this long, or the reset would destroy the answer on its way (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// So long a client that floods waits until it is told, and may begin anew. Nothing is read of it meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// What a client that floods has to wait for.
pub(super) async fn pause(client: &Client) {
    let never = std::future::pending::<()>();
    let _ = client.timer.within(client.worker.now(), PAUSE, never).await;
}

/// Answers in the codec's place, and closes.
pub(super) async fn last_words(client: &Client, mut stream: ClientStream, answer: &[u8]) {
    let now = client.worker.now();
    let _ = Box::pin(client.timer.within(now, LINGER, stream.write_all(answer))).await;
    close(client, stream, true).await;
}

/// Closes the connection; with `linger`, the sending side first, and what still comes is thrown away.
pub(super) async fn close(client: &Client, mut stream: ClientStream, linger: bool) {
    let linger = linger && !stream.notes.ended.get();
    if !linger && matches!(stream.transport, Transport::Plain(_)) {
        // Dropping the socket says the same with one system call less.
        return;
    }
    // From here on nothing is a request, so nothing is held back or looked at.
    drop(stream.make_plain());
    let work = async {
        let _ = poll_fn(|cx| stream.poll_close(cx)).await;
        if linger {
            throw_away(client, &mut stream).await;
        }
    };
    let _ = client.timer.within(client.worker.now(), LINGER, work).await;
}

/// Reads what still comes, so much at most.
async fn throw_away(client: &Client, stream: &mut ClientStream) {
    let mut left = LINGER_BYTES;
    while left > 0 {
        let read = poll_fn(|cx| {
            let mut scratch = client.worker.scratch.borrow_mut();
            let mut waste = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut waste))?;
            Poll::Ready(io::Result::Ok(waste.filled().len()))
        });
        match read.await {
            Ok(read) if read > 0 && client.worker.waste.add(client.worker.now(), read) => {
                left = left.saturating_sub(read);
            }
            _ => return,
        }
    }
}
