//! A backend over HTTP/2 without TLS whose answers a test gives itself, stream by stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::Request;
use tokio::task::{LocalSet, spawn_local};

use super::Backend;

/// See the module. Its thread ends with the tests.
pub struct H2Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl H2Origin {
    /// `answer` is run for each request.
    pub fn start<A: Future<Output = ()> + 'static>(
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> A + Send + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("tokio's");
        let address = listener.local_addr().expect("it is bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let serve = async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let answer = std::rc::Rc::new(answer);
                while let Ok((stream, _)) = listener.accept().await {
                    count.fetch_add(1, Ordering::Relaxed);
                    let answer = answer.clone();
                    spawn_local(async move {
                        let mut builder = Builder::new();
                        builder.enable_connect_protocol();
                        let Ok(mut connection) = builder.handshake(stream).await else { return };
                        // How it ends is for the other side to see.
                        while let Some(Ok((request, reply))) = connection.accept().await {
                            spawn_local(answer(request, reply));
                        }
                    });
                }
            };
            LocalSet::new().block_on(&runtime.expect("a runtime"), serve);
        });
        Self { address, connections }
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Backend for H2Origin {
    fn address(&self) -> SocketAddr {
        self.address
    }
}
