//! Handshakes that are never finished, and packets that are none.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use crate::support::http3::{self, MOMENT, Peer};
use crate::support::{Proxy, RawOrigin, wait_until};

use super::{OK, Site};

const URI: &str = "https://a.test/";

/// Passes packets on between one client and a server, and may keep back what the server says.
struct Relay {
    address: SocketAddr,
    /// The first byte of each packet of the server.
    said: Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Relay {
    fn to(server: SocketAddr, mute: bool) -> Self {
        let (front, back) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = front.local_addr().unwrap();
        let said = Arc::new(std::sync::Mutex::new(Vec::new()));
        back.connect(server).unwrap();
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
        }
        let client = Arc::new(std::sync::Mutex::new(None));
        let (front2, back2, client2) =
            (front.try_clone().unwrap(), back.try_clone().unwrap(), client.clone());
        std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok((length, from)) = front2.recv_from(&mut packet) {
                *client2.lock().unwrap() = Some(from);
                let _ = back2.send(&packet[..length]);
            }
        });
        let heard = said.clone();
        std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok(length) = back.recv(&mut packet) {
                heard.lock().unwrap().push(packet[0]);
                let to = *client.lock().unwrap();
                if let (false, Some(to)) = (mute, to) {
                    let _ = front.send_to(&packet[..length], to);
                }
            }
        });
        Self { address, said }
    }

    fn is_retry(byte: u8) -> bool {
        byte & 0xb0 == 0xb0
    }
}

#[test]
fn a_flood_of_handshakes_makes_clients_prove_their_address() {
    let origin = RawOrigin::always(OK);
    let site = Site::new(Proxy::new().backend(&origin).runtime("workers = 1"), "", "");
    let server = site.proxy.address("http");
    let trust = site.trust();
    let calm = Relay::to(server, false);
    let client = Peer::new(calm.address, "a.test", &trust).http3().unwrap();
    assert_eq!(client.get(URI).unwrap().status, 200);
    assert!(!calm.said.lock().unwrap().iter().any(|byte| Relay::is_retry(*byte)));

    // They hear nothing, so their handshakes stay half done.
    let mute = Relay::to(server, true);
    let runtime = http3::runtime();
    let _inside = runtime.enter();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let settings = Peer::new(mute.address, "a.test", &trust).settings();
    let stuck: Vec<_> = (0..80)
        .map(|_| endpoint.connect_with(settings.clone(), mute.address, "a.test").unwrap())
        .collect();
    wait_until("somebody is asked for a proof", || {
        mute.said.lock().unwrap().iter().any(|byte| Relay::is_retry(*byte))
    });
    let open = site.proxy.metric("tidegate_connections", &[("listener", "http")]);
    assert!((64.0..=66.0).contains(&open), "{open} are open");
    let relay = Relay::to(server, false);
    let client = Peer::new(relay.address, "a.test", &trust).http3().unwrap();
    assert_eq!(client.get(URI).unwrap().status, 200, "who can be reached is served");
    assert!(Relay::is_retry(relay.said.lock().unwrap()[0]));
    drop(stuck);
}

#[test]
fn packets_that_are_none_are_borne() {
    let origin = RawOrigin::always(OK);
    let site = Site::new(Proxy::new().backend(&origin).runtime("workers = 2"), "", "");
    let client = site.http3();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(site.proxy.address("http")).unwrap();
    socket.set_read_timeout(Some(MOMENT)).unwrap();
    let mut rng = fastrand::Rng::with_seed(9000);
    for _ in 0..2000 {
        let length = rng.usize(..1400);
        let packet: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
        let _ = socket.send(&packet);
    }
    // A version that nobody knows is answered with those that there are (RFC 9000 §6).
    let mut unknown = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 0, 1, 2, 3, 4, 5, 6, 7, 0];
    unknown.resize(1200, 0);
    socket.send(&unknown).unwrap();
    let mut packet = [0; 2048];
    wait_until("the versions are told", || {
        socket.recv(&mut packet).is_ok_and(|length| {
            packet[0] & 0x80 != 0
                && packet[1..5] == [0; 4]
                && packet[..length].ends_with(&[0, 0, 0, 1])
        })
    });
    assert_eq!(client.get(URI).unwrap().status, 200);
}
