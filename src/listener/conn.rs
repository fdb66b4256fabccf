//! One accepted connection: caps, TLS handshake, choice of protocol.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use rustls::ServerConfig;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::http::client::Client;
use crate::http::forwarded::Peer;
use crate::http::http2;
use crate::http::park;
use crate::http::serve;
use crate::snapshot::ListenerView;
use crate::telemetry::{Connection, Flood, Refusal};
use crate::worker::context::{Counted, Worker};

use super::frames::PREFACE;
use super::per_address::Place;
use super::proxy_header;
use super::stream::{ClientStream, Transport};

/// The first line of it.
const FIRST_LINE: &[u8] = PREFACE.split_at(16).0;
/// Read at once when the protocol has to be found out; most heads fit.
const FIRST_READ: usize = 4096;

/// A connection that was let in, with everything that counts it.
pub struct Admitted {
    pub worker: Rc<Worker>,
    pub view: Arc<ListenerView>,
    pub peer: SocketAddr,
    place: Option<Place>,
    _counts: (Connection, Counted),
}

/// Lets a connection in, or refuses it for a cap. With a PROXY header its client is not known yet, and
/// [`serve()`] asks for a place.
pub fn admit(
    worker: &Rc<Worker>,
    view: &Arc<ListenerView>,
    peer: SocketAddr,
) -> Result<Admitted, Refused> {
    let connection = view.stats.admit(view.config.max_connections).ok_or(Refused::Full)?;
    let place = match view.config.proxy_protocol {
        true => None,
        false => place(worker, view, peer.ip())?,
    };
    let counts = (connection, worker.count());
    Ok(Admitted { worker: worker.clone(), view: view.clone(), peer, place, _counts: counts })
}

/// A place among the connections of one address, if those are limited; none for one that is banned. It is
/// asked for as soon as the client is known: before the TLS handshake, after a PROXY header.
pub(super) fn place(
    worker: &Worker,
    view: &ListenerView,
    client: IpAddr,
) -> Result<Option<Place>, Refused> {
    let address = client.to_canonical();
    let is_trusted = || view.config.trusted_proxies.iter().any(|net| net.contains(&address));
    if worker.shared.bans.left(address, || worker.now()).is_some() && !is_trusted() {
        view.stats.refuse(Refusal::Banned);
        return Err(Refused::Banned);
    }
    let most = view.config.max_connections_per_ip;
    if most == 0 {
        return Ok(None);
    }
    let place = worker.shared.per_address.enter(&view.config.name, client, most);
    if place.is_none() {
        view.stats.refuse(Refusal::PerIp);
    }
    place.map(Some).ok_or(Refused::Full)
}

/// Why a connection is not let in; it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// For a cap.
    Full,
    Banned,
}

/// The protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves a connection to its end.
pub async fn serve(admitted: Admitted, mut tcp: TcpStream) {
    let Admitted { worker, view, mut peer, place: _place, _counts } = admitted;
    let timer = worker.timers.timer();
    let limit = view.config.timeout.handshake;
    let mut _named_place = None;
    if view.config.proxy_protocol {
        let naming = Box::pin(timer.within(worker.now(), limit, client_of(&view, &mut tcp, peer)));
        match naming.await.unwrap_or_else(|| late(&view, Refusal::ProxyHeader)) {
            Ok(client) => peer = client,
            Err(why) => return view.stats.refuse(why),
        }
        match place(&worker, &view, peer.ip()) {
            Ok(place) => _named_place = place,
            Err(Refused::Full) => return,
            Err(Refused::Banned) => return worker.tarpit.hold(worker.now(), tcp),
        }
    }
    let local = tcp.local_addr().unwrap_or(peer);
    let tls = view.tls.is_some();
    let transport = match &view.tls {
        None => Transport::Plain(tcp),
        Some(config) => {
            // Boxed, as all below: a task is as large as the largest thing it may await.
            let opening = Box::pin(timer.within(worker.now(), limit, handshake(config, tcp)));
            let opened = opening.await.unwrap_or_else(|| {
                worker.offends(peer.ip().to_canonical(), &view.config.trusted_proxies);
                late(&view, Refusal::Handshake)
            });
            match opened {
                Ok(transport) => transport,
                Err(why) => return view.stats.refuse(why),
            }
        }
    };
    let stream = ClientStream::new(transport);
    let ends = (peer, local);
    let peer = Peer::new(peer.ip(), tls, &view.config.trusted_proxies);
    let proven = stream.transport.proven(&view);
    let alt_svc = view.config.http3.then(|| alt_svc(local.port())).flatten();
    let notes = stream.notes.clone();
    let client = Client::new(worker, view, (peer, ends), proven, timer, notes, alt_svc);
    match choose(&client, stream).await {
        Some((Protocol::Http1, stream)) => serve::http1(client, stream).await,
        Some((Protocol::Http2, stream)) => Box::pin(http2::serve(client, stream)).await,
        None => {}
    }
}

/// Where HTTP/3 is (RFC 7838 §3): on the port that the client came to, for a day.
fn alt_svc(port: u16) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("h3=\":{port}\"; ma=86400")).ok()
}

/// It did not come within `timeout.handshake`.
fn late<T>(view: &ListenerView, why: Refusal) -> Result<T, Refusal> {
    view.stats.flood(Flood::SlowHandshake);
    Err(why)
}

/// Whom a peer speaks for by its PROXY header.
async fn client_of(
    view: &ListenerView,
    tcp: &mut TcpStream,
    peer: SocketAddr,
) -> Result<SocketAddr, Refusal> {
    let ip = peer.ip().to_canonical();
    if !view.config.trusted_proxies.iter().any(|net| net.contains(&ip)) {
        return Err(Refusal::Untrusted);
    }
    match proxy_header::read(tcp).await {
        Ok(client) => Ok(client.unwrap_or(peer)),
        Err(error) => {
            tracing::debug!(listener = &*view.config.name, %peer, "{error}");
            Err(Refusal::ProxyHeader)
        }
    }
}

async fn handshake(config: &Arc<ServerConfig>, tcp: TcpStream) -> Result<Transport, Refusal> {
    match TlsAcceptor::from(config.clone()).accept(tcp).await {
        Ok(stream) => Ok(Transport::Tls(Box::new(stream))),
        Err(error) => Err(match error.get_ref().and_then(|e| e.downcast_ref()) {
            // No certificate covers the name.
            Some(rustls::Error::General(why)) if why.contains("no server certificate") => {
                Refusal::UnknownSni
            }
            _ => Refusal::Handshake,
        }),
    }
}

/// ALPN decides over TLS; without it the first bytes do, where both protocols are allowed.
async fn choose(client: &Client, mut stream: ClientStream) -> Option<(Protocol, ClientStream)> {
    let listener = &client.listener.config;
    if let Transport::Tls(tls) = &stream.transport {
        let protocol = match tls.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            None if !listener.http1 => Protocol::Http2,
            _ => Protocol::Http1,
        };
        return Some((protocol, stream));
    }
    match (listener.http1, listener.http2) {
        (_, false) => return Some((Protocol::Http1, stream)),
        (false, true) => return Some((Protocol::Http2, stream)),
        (true, true) => {}
    }
    // The first byte may take as long as on a kept connection; then the head's deadline counts.
    let mut first = Vec::new();
    while first.is_empty() {
        if !park::wait(client, &stream).await {
            return None;
        }
        first = stream.try_read(FIRST_READ).ok()?;
    }
    let read = async {
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            match stream.read_buf(&mut first).await {
                Ok(n) if n > 0 => {}
                _ => return None,
            }
        }
        Some(())
    };
    let read = client.timer.within(client.worker.now(), listener.timeout.header, read).await;
    if read.is_none() {
        client.floods(Flood::SlowHead);
    }
    read??;
    // Its first line is no request in any version; whether the rest is right is judged with the frames.
    let protocol = if first.starts_with(FIRST_LINE) { Protocol::Http2 } else { Protocol::Http1 };
    stream.put_back(first);
    Some((protocol, stream))
}
