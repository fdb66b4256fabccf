//! The QUIC endpoint of one worker on one address: connections are let in as TCP's are, and floods of
//! handshakes are bounded.
//!
//! A client's address can be forged as long as nothing came back from it. While few handshakes are under
//! way that is borne; with `HANDSHAKES` of them each client has to show first that it can be reached
//! (Retry, RFC 9000 §8.1.2), which keeps no state here. What is counted by address is counted only once
//! the address is known to be the client's own.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::FutureExt as _;
use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, Endpoint, EndpointConfig, Incoming, TokioRuntime};
use rustls_pki_types::CertificateDer;
use tokio::sync::mpsc;

use crate::http::client::Client;
use crate::http::forwarded::Peer;
use crate::http3::connection;
use crate::snapshot::ListenerView;
use crate::telemetry::{Connection, Flood, Refusal};
use crate::tls::clients::ClientCertificate;
use crate::worker::context::{Counted, Worker};

use super::accept::view;
use super::bind::Bound;
use super::closing::Closing;
use super::conn;
use super::per_address::Place;
use super::relay;
use super::stream::{Notes, Proven};
use super::udp::Group;

/// Handshakes of a worker on one address from which on a client's address has to be proven.
const HANDSHAKES: usize = 64;
/// QUIC version 1 (RFC 9000).
const VERSION: u32 = 1;

/// A running endpoint. Dropping it asks its connections to come to an end; the socket is closed after them.
pub struct Listening {
    bound: Bound,
    closing: Rc<Closing>,
    tell: Rc<Cell<Option<mpsc::Sender<()>>>>,
}

/// What the endpoint's task and the handshakes share.
struct Shared {
    worker: Rc<Worker>,
    closing: Rc<Closing>,
    /// Where it listens.
    address: SocketAddr,
    /// Handshakes that are under way.
    handshakes: Cell<usize>,
}

/// Counts a handshake.
struct Handshake(Rc<Shared>);

/// A connection attempt that was let in, with everything that counts it.
struct Admitted {
    view: Arc<ListenerView>,
    peer: SocketAddr,
    local: SocketAddr,
    /// Among those of its address; `None` while that is not proven.
    place: Option<Option<Place>>,
    _counts: (Connection, Counted),
}

/// Starts accepting on the socket of that number.
pub fn listen(
    worker: Rc<Worker>,
    bound: Bound,
    (group, number): (Arc<Group>, usize),
) -> io::Result<Listening> {
    let quic = view(&worker, &bound).and_then(|view| view.quic.clone());
    // It was published before the sockets are.
    let quic = quic.ok_or_else(|| io::Error::other("there are no settings for HTTP/3"))?;
    let ids = group.ids(number);
    let mut config = EndpointConfig::default();
    config.supported_versions(vec![VERSION]).cid_generator(move || Box::new(ids));
    let socket = Arc::new(group.shared(number)?);
    let (quic, runtime) = (Some((*quic).clone()), Arc::new(TokioRuntime));
    let endpoint = Endpoint::new_with_abstract_socket(config, quic, socket.clone(), runtime)?;
    let closing = Rc::new(Closing::default());
    let shared = Shared {
        worker,
        closing: closing.clone(),
        address: bound.address,
        handshakes: Cell::new(0),
    };
    let shared = Rc::new(shared);
    let tell = Rc::new(Cell::new(None));
    let task = run(shared, (endpoint, socket), bound.clone(), group, tell.clone());
    tokio::task::spawn_local(task);
    Ok(Listening { bound, closing, tell })
}

impl Listening {
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Closes it and drops the sender once nothing more is let in.
    pub fn close_and_tell(self, tell: mpsc::Sender<()>) {
        self.tell.set(Some(tell));
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.closing.ask();
    }
}

async fn run(
    shared: Rc<Shared>,
    (endpoint, socket): (Endpoint, Arc<relay::Shared>),
    bound: Bound,
    group: Arc<Group>,
    tell: Rc<Cell<Option<mpsc::Sender<()>>>>,
) {
    let let_in = |incoming: Incoming| match view(&shared.worker, &bound) {
        Some(view) => take(&shared, view, incoming),
        None => incoming.refuse(),
    };
    loop {
        let incoming = tokio::select! {
            biased;
            () = shared.closing.asked() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        let_in(incoming);
    }
    drop(tell.take());
    socket.leave();
    // Whose first packet came to us is served by us.
    while let Some(Some(incoming)) = endpoint.accept().now_or_never() {
        let_in(incoming);
    }
    // Who comes now hears nothing and comes by TCP, or from a tidegate that took over these sockets.
    endpoint.set_server_config(None);
    endpoint.wait_idle().await;
    drop(group);
}

/// Begins a handshake, unless there are reasons not to.
fn take(shared: &Rc<Shared>, view: Arc<ListenerView>, incoming: Incoming) {
    let proven = incoming.remote_address_validated();
    if !proven && shared.handshakes.get() >= HANDSHAKES {
        // Whoever may be asked for a proof has not given it.
        let _ = incoming.retry();
        return;
    }
    let Some(quic) = view.quic.clone() else { return incoming.refuse() };
    let peer = incoming.remote_address();
    let local = incoming.local_ip().unwrap_or(shared.address.ip());
    let ends = (peer, SocketAddr::new(local, shared.address.port()));
    let Some(admitted) = admit(&shared.worker, view, ends, proven) else {
        return incoming.refuse();
    };
    let handshake = Handshake::new(shared);
    let worker = shared.worker.clone();
    match incoming.accept_with(quic) {
        Ok(connecting) => worker.spawn(Box::pin(serve(handshake, admitted, connecting))),
        Err(error) => refused(&admitted.view, &error),
    }
}

fn admit(
    worker: &Rc<Worker>,
    view: Arc<ListenerView>,
    (peer, local): (SocketAddr, SocketAddr),
    proven: bool,
) -> Option<Admitted> {
    if worker.shared.full.load(Relaxed) {
        view.stats.refuse(Refusal::Memory);
        return None;
    }
    let connection = view.stats.admit(view.config.max_connections)?;
    let place = match proven {
        true => Some(conn::place(worker, &view, peer.ip()).ok()?),
        false => None,
    };
    Some(Admitted { view, peer, local, place, _counts: (connection, worker.count()) })
}

fn refused(view: &ListenerView, error: &ConnectionError) {
    view.stats.refuse(match error {
        // No certificate covers the name.
        ConnectionError::TransportError(error)
            if error.reason.contains("no server certificate") =>
        {
            Refusal::UnknownSni
        }
        _ => Refusal::Handshake,
    });
}

async fn serve(handshake: Handshake, admitted: Admitted, connecting: quinn::Connecting) {
    let Admitted { view, peer, local, place, _counts } = admitted;
    let Shared { worker, closing, .. } = &*handshake.0;
    let (worker, closing) = (worker.clone(), closing.clone());
    let timer = worker.timers.timer();
    let limit = view.config.timeout.handshake;
    let quic = match timer.within(worker.now(), limit, connecting).await {
        Some(Ok(quic)) => quic,
        Some(Err(error)) => return refused(&view, &error),
        None => {
            view.stats.flood(Flood::SlowHandshake);
            return view.stats.refuse(Refusal::Handshake);
        }
    };
    drop(handshake);
    let _place = match place {
        Some(place) => place,
        None => match conn::place(&worker, &view, peer.ip()) {
            Ok(place) => place,
            Err(_) => return quic.close(crate::http3::EXCESSIVE_LOAD, b""),
        },
    };
    let proven = proven(&view, &quic);
    let ends = (peer, local);
    let peer = Peer::new(peer.ip(), true, &view.config.trusted_proxies);
    let notes = Rc::<Notes>::default();
    let client = Client::new(worker, view, (peer, ends), proven, timer, notes, None);
    connection::serve(client, quic, closing).await;
}

/// What the client has shown of itself, where that is asked for.
fn proven(view: &ListenerView, quic: &quinn::Connection) -> Option<Box<Proven>> {
    let asks = view.config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    asks.then(|| {
        let chain = quic.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer>>().ok());
        let shown = chain.as_ref().and_then(|chain| chain.first());
        let data = quic.handshake_data().and_then(|any| any.downcast::<HandshakeData>().ok());
        Box::new(Proven {
            certificate: shown.and_then(ClientCertificate::of),
            server_name: data
                .and_then(|data| data.server_name)
                .map(|name| name.to_ascii_lowercase().into()),
        })
    })
}

impl Handshake {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.handshakes.set(shared.handshakes.get() + 1);
        Self(shared.clone())
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get() - 1);
    }
}
