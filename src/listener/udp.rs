//! UDP sockets for HTTP/3: on each address that a listener has by TCP one for each worker, in a group that
//! is kept whole.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::types::{ListenAddress, Listener};

use super::bind::{self, BindError, Bound, Change, Kind, Listening, Opened};
use super::given::Given;
use super::relay::{self, Ways};
use super::steer::{self, Ids};

/// What the kernel keeps of packets that a worker has not read yet, in bytes; it may allow less.
const RECEIVE_BUFFER: usize = 2 << 20;
const SEND_BUFFER: usize = 1 << 20;

/// Ports that are tried in place of port 0 until one is free for both TCP and UDP.
const PORTS: usize = 16;

/// The sockets of one address, in their order. The kernel numbers them, and fills a gap with the last one, so
/// that all stay open until the last worker is done with its own.
#[derive(Debug)]
pub struct Group {
    sockets: Vec<UdpSocket>,
    ways: Vec<Ways>,
    generation: u32,
}

impl Group {
    /// Of sockets bound to one address, in the order in which they were, and the ways of each.
    fn new(sockets: Vec<Socket>, ways: Vec<Ways>, generation: u32) -> Self {
        let sockets: Vec<UdpSocket> = sockets.into_iter().map(Into::into).collect();
        if let Some(first) = sockets.first()
            && let Err(error) = steer::steer(first, sockets.len())
        {
            tracing::info!(
                "HTTP/3: clients that change their address lose their connections: the kernel takes no filter ({error})"
            );
        }
        Self { sockets, ways, generation }
    }

    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// The socket of that number.
    pub fn socket(&self, number: usize) -> &UdpSocket {
        &self.sockets[number]
    }

    /// The same for an endpoint to read.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn shared(&self, number: usize) -> io::Result<relay::Shared> {
        relay::Shared::new(&self.sockets[number], &self.ways[number])
    }

    /// Ids that lead to the socket of that number in this process.
    pub fn ids(&self, number: usize) -> Ids {
        Ids::new(number, self.sockets(), self.generation)
    }
}

/// Adds to a change of TCP's sockets what UDP's need beyond `bound`; what cannot be bound.
pub(super) fn add(
    change: &mut Change,
    bound: &[Bound],
    wanted: &[Arc<Listener>],
    workers: usize,
    given: &mut Given,
) -> Vec<BindError> {
    let with_http3 = |of: &Bound| wanted.iter().any(|l| l.http3 && l.name == of.listener);
    let same = |a: &Bound, b: &Bound| a.listener == b.listener && a.configured == b.configured;
    let (udp, tcp): (Vec<&Bound>, Vec<&Bound>) = bound.iter().partition(|b| b.kind == Kind::Udp);
    let stays = |b: &Bound| with_http3(b) && !change.close.iter().any(|closed| same(closed, b));
    let leaving: Vec<Bound> = udp.iter().filter(|b| !stays(b)).map(|b| (*b).clone()).collect();
    let new = tcp.iter().filter(|b| stays(b) && !udp.iter().any(|udp| same(udp, b)));
    let new: Vec<Bound> = new.map(|b| (*b).clone()).collect();
    change.close.extend(leaving);

    let mut opened = Vec::new();
    let mut errors = Vec::new();
    for bound in &new {
        match open(bound, workers, given) {
            Ok(more) => opened.push(more),
            Err(error) => errors.push(failed(bound, error)),
        }
    }
    for tcp in change.open.iter_mut().filter(|opened| with_http3(&opened.bound)) {
        match open_beside(tcp, workers, given) {
            Ok(more) => opened.push(more),
            Err(error) => errors.push(failed(&tcp.bound, error)),
        }
    }
    change.open.extend(opened);
    errors
}

fn failed(bound: &Bound, error: io::Error) -> BindError {
    let (listener, address) = (bound.listener.clone(), bound.configured.clone());
    BindError { listener, kind: Kind::Udp, address, error }
}

/// The sockets beside new ones of TCP; where any port will do, TCP's are bound anew if UDP's is taken.
fn open_beside(tcp: &mut Opened, workers: usize, given: &mut Given) -> io::Result<Opened> {
    let any = match tcp.bound.configured {
        ListenAddress::Socket(address) if address.port() == 0 => Some(address),
        _ => None,
    };
    for _ in 1..PORTS {
        match (open(&tcp.bound, workers, given), any) {
            (Err(error), Some(any)) if error.kind() == io::ErrorKind::AddrInUse => {
                (tcp.bound.address, tcp.sockets) = bind::bind_all(any, workers, true)?;
            }
            (result, _) => return result,
        }
    }
    open(&tcp.bound, workers, given)
}

/// The sockets that go with those of TCP: new ones, or those of the tidegate before us.
fn open(tcp: &Bound, workers: usize, given: &mut Given) -> io::Result<Opened> {
    let bound = Bound { kind: Kind::Udp, ..tcp.clone() };
    let handed = bind::handed_over(given, Kind::Udp, &bound.configured, &bound.listener);
    let sockets: Vec<Socket> = if handed.is_empty() {
        // Nobody else's: only then they are shared among the workers.
        drop(bind(bound.address, false)?);
        (0..workers).map(|_| bind(bound.address, true)).collect::<io::Result<_>>()?
    } else {
        handed.into_iter().map(Socket::from).collect()
    };
    let relay::Opened { generation, ways, for_next } =
        relay::Opened::new(bound.address, sockets.len(), given)?;
    let group = Arc::new(Group::new(sockets, ways, generation));
    let numbers = 0..group.sockets();
    let sockets = numbers.map(|n| (n % workers, Listening::Udp(group.clone(), n))).collect();
    Ok(Opened { bound, sockets, for_next })
}

/// A socket on that address.
fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(reuse_port)?;
    // Larger ones lose less in a burst; the kernel's limits are no reason to fail.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(http3: bool) -> Arc<Listener> {
        let plain = Listener::plain("a", &[SocketAddr::from(([127, 0, 0, 1], 0))]);
        Arc::new(Listener { http3, ..plain })
    }

    fn change(bound: &[Bound], listener: &Arc<Listener>, workers: usize) -> Change {
        let given = &mut Given::default();
        bind::change(bound, std::slice::from_ref(listener), workers, given).expect("bind")
    }

    #[test]
    fn it_has_the_same_port_and_comes_and_goes_by_itself() {
        let first = change(&[], &listener(false), 2);
        let tcp = first.open[0].bound.clone();
        let second = change(std::slice::from_ref(&tcp), &listener(true), 2);
        assert!(second.close.is_empty());
        let [udp] = &second.open[..] else { panic!("{:?}", second.open) };
        assert_eq!((udp.bound.kind, udp.bound.address), (Kind::Udp, tcp.address));
        assert_eq!(udp.sockets.len(), 2);
        let bound = [tcp, udp.bound.clone()];
        assert!(change(&bound, &listener(true), 2).open.is_empty());
        let third = change(&bound, &listener(false), 2);
        assert!(third.open.is_empty());
        assert_eq!(third.close, [bound[1].clone()]);
        let fresh = change(&[], &listener(true), 2);
        assert_eq!(fresh.open.len(), 2);
        assert_eq!(fresh.open[0].bound.address, fresh.open[1].bound.address);
        let all = [fresh.open[0].bound.clone(), fresh.open[1].bound.clone()];
        let gone = bind::change(&all, &[], 2, &mut Given::default()).expect("nothing to bind");
        assert_eq!(gone.close, all);
    }

    #[test]
    fn a_port_in_use_is_an_error_that_says_so() {
        let taken = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let address = taken.local_addr().expect("an address");
        let plain = Listener::plain("a", &[address]);
        let both = Arc::new(Listener { http3: true, ..plain });
        let errors = bind::change(&[], &[both], 1, &mut Given::default()).expect_err("taken");
        assert!(errors[0].to_string().contains("(UDP, for h3): "), "{}", errors[0]);
    }

    #[test]
    fn what_is_handed_over_is_used_whatever_the_number_of_workers() {
        let before = change(&[], &listener(true), 3);
        let handed = before.open.iter().flat_map(|opened| {
            let name = opened.bound.handover_name();
            let spare = |socket: &Listening| socket.spare().expect("spare");
            opened.sockets.iter().map(move |(_, socket)| (name.clone(), spare(socket)))
        });
        let mut given = Given::by_predecessor(handed.collect());
        let after = bind::change(&[], &[listener(true)], 2, &mut given).expect("taken over");
        let udp = after.open.iter().find(|o| o.bound.kind == Kind::Udp).expect("UDP");
        assert_eq!(udp.bound.address, before.open[0].bound.address);
        assert_eq!(Vec::from_iter(udp.sockets.iter().map(|socket| socket.0)), [0, 1, 0]);
        assert!(given.unused().is_empty());
    }

    fn group(workers: usize) -> (Group, SocketAddr) {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), true).expect("bind");
        let address = first.local_addr().expect("address").as_socket().expect("IP");
        let mut sockets = vec![first];
        sockets.extend((1..workers).map(|_| bind(address, true).expect("bind")));
        let given = &mut Given::default();
        let relay::Opened { generation, ways, .. } =
            relay::Opened::new(address, workers, given).expect("ways");
        (Group::new(sockets, ways, generation), address)
    }

    /// Which of the sockets got it.
    fn receiver(group: &Group) -> Option<usize> {
        let mut buffer = [0; 64];
        (0..group.sockets()).find(|number| group.socket(*number).recv(&mut buffer).is_ok())
    }

    #[test]
    fn packets_go_to_the_worker_that_their_id_names_from_wherever_they_come() {
        let (group, address) = group(3);
        for round in 0..30u16 {
            let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
            let id = (round * 2011).to_be_bytes();
            let short = [0x40, id[0], id[1], 1, 2, 3, 4, 5, 6];
            let long = [0xc0, 0, 0, 0, 1, 8, id[0], id[1], 1, 2, 3, 4, 5, 6];
            for packet in [&short[..], &long] {
                client.send_to(packet, address).expect("send");
                let expected = usize::from(round * 2011 % 3);
                assert_eq!(receiver(&group), Some(expected), "{round}: {packet:x?}");
            }
            // Too short for an id: whoever gets it drops it.
            client.send_to(&[0x40], address).expect("send");
            assert!(receiver(&group).is_some());
        }
    }
}
