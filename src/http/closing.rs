//! The end of a client's connection: what is said last gets to the client.

use std::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::listener::stream::{ClientStream, Transport};

use super::serve::Client;

/// After an answer to a request that was not read to its end, the rest is read and thrown away
/// for this long, or the reset would destroy the answer on its way (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;
/// Read at once of what is thrown away.
const WASTE: usize = 16 * 1024;

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
    let work = async {
        let _ = poll_fn(|cx| stream.poll_close(cx)).await;
        if linger {
            let mut waste = vec![0; WASTE];
            let mut left = LINGER_BYTES;
            while let Ok(n) = stream.read(&mut waste).await {
                left = left.saturating_sub(n);
                if n == 0 || left == 0 {
                    break;
                }
            }
        }
    };
    let _ = client.timer.within(client.worker.now(), LINGER, work).await;
}
