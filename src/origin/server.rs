//! Accepting connections, and stopping so that nothing that runs is lost.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::Origin;
use super::answer::answer;

/// How long what runs may take once it was told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes that wait in the kernel for a client that does not read, beyond what its window takes. Over the loopback, whose
/// packets are large, it would take megabytes of each answer at once.
const UNSENT: u32 = 256 * 1024;
/// A pause when accepting fails, so that being out of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 and HTTP/2 (prior knowledge) until `stop` resolves; then accepts what has
/// already connected, closes the listener and finishes what runs, for 60 s at most.
pub async fn serve(origin: Arc<Origin>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => connection(&origin, stream, peer, graceful.watcher()),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    // Closing a listener resets the connections in its queue, so they are taken first.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                connection(&origin, stream, peer, graceful.watcher());
            }
        }
    }
    let _ = tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await;
}

fn connection(origin: &Arc<Origin>, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
    let origin = origin.clone();
    // Without it small answers wait for acknowledgements; a failure only makes it slower.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
    tokio::spawn(async move {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1000);
        let service = service_fn(move |request| answer(origin.clone(), peer, request));
        let connection =
            builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        // What goes wrong on a connection is its client's to see.
        let _ = watcher.watch(connection).await;
    });
}
