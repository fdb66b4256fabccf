use std::future::poll_fn;

use super::super::steer::Ids;
use super::*;

use quinn::ConnectionIdGenerator as _;

/// What a process has of an address with one socket.
struct Process {
    opened: Opened,
    shared: Shared,
}

impl Process {
    fn new(udp: &UdpSocket, mut given: Given) -> Self {
        let address = udp.local_addr().expect("an address");
        let opened = Opened::new(address, 1, &mut given).expect("ways");
        assert!(given.unused().is_empty());
        let shared = Shared::new(udp, &opened.ways[0]).expect("shared");
        Self { opened, shared }
    }

    fn for_next(&self) -> Given {
        let all = self.opened.for_next.iter();
        let all = all.map(|(name, fd)| (name.clone(), fd.try_clone().expect("a descriptor")));
        Given::by_predecessor(all.collect())
    }

    /// Its listeners are closed.
    fn end(&mut self) {
        self.opened.for_next.clear();
        self.shared.leave();
    }

    /// The next packets that are for it, one at least.
    async fn receive(&self) -> Vec<(Vec<u8>, RecvMeta)> {
        let mut space = vec![[0; 65536]; 8];
        loop {
            let mut buffers: Vec<_> = space.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            let mut metas = [RecvMeta::default(); 8];
            let received = poll_fn(|c| self.shared.poll_recv(c, &mut buffers, &mut metas));
            let received = received.await.expect("received");
            let all = buffers.iter().zip(metas).take(received).filter(|(_, meta)| meta.len > 0);
            let all = all.flat_map(|(buffer, meta)| {
                buffer[..meta.len].chunks(meta.stride).map(move |packet| (packet.to_vec(), meta))
            });
            let all: Vec<_> = all.collect();
            if !all.is_empty() {
                return all;
            }
        }
    }

    async fn receive_all(&self, packets: usize) -> Vec<(Vec<u8>, RecvMeta)> {
        let mut all = Vec::new();
        while all.len() < packets {
            let more = tokio::time::timeout(std::time::Duration::from_secs(60), self.receive());
            all.extend(more.await.expect("a packet"));
        }
        assert_eq!(all.len(), packets);
        all
    }

    fn has_nothing(&self) {
        let (mut space, mut metas) = ([0; 1500], [RecvMeta::default()]);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut buffers = [IoSliceMut::new(&mut space)];
        match self.shared.poll_recv(&mut context, &mut buffers, &mut metas) {
            Poll::Pending => {}
            Poll::Ready(received) => assert_eq!(received.map(|_| metas[0].len).ok(), Some(0)),
        }
    }
}

fn udp() -> UdpSocket {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
    udp.set_nonblocking(true).expect("nonblocking");
    udp
}

/// For an id of that generation, with that many bytes in all.
fn packet(generation: u32, mark: u8, length: usize) -> Vec<u8> {
    let mut packet = [&[0x40][..], &Ids::new(0, 1, generation).generate_cid()].concat();
    packet.resize(length, mark);
    packet
}

#[tokio::test]
async fn three_processes_in_a_row_get_what_is_for_each() {
    let (udp, client) = (udp(), udp());
    let to = udp.local_addr().expect("an address");
    let mut first = Process::new(&udp, Given::default());
    let mut second = Process::new(&udp, first.for_next());
    first.end();
    let third = Process::new(&udp, second.for_next());
    second.end();
    let all = [&first, &second, &third];
    assert_eq!(all.map(|process| process.opened.generation), [0, 1, 2]);
    assert_eq!(third.opened.for_next.len(), 3);

    for round in 0..8 {
        // All of one length, so that the kernel may give several at once.
        for generation in [2, 0, 1, 7, 0] {
            client.send_to(&packet(generation, round, 1200), to).expect("sent");
        }
        let ours = third.receive_all(2).await;
        assert_eq!(steer::generation(&ours[0].0), Some(2));
        assert_eq!(steer::generation(&ours[1].0), Some(7), "nobody's it leaves to the endpoint");
        for (process, generation, packets) in [(&first, 0, 2), (&second, 1, 1)] {
            for (bytes, meta) in process.receive_all(packets).await {
                assert_eq!(steer::generation(&bytes), Some(generation));
                assert_eq!((bytes.len(), bytes[1199]), (1200, round));
                assert_eq!(meta.addr, client.local_addr().expect("an address"));
                assert_eq!(meta.dst_ip, Some(to.ip()));
            }
        }
    }
    all.iter().for_each(|process| process.has_nothing());
}

#[tokio::test]
async fn who_has_nobody_after_it_reads_the_socket() {
    let (udp, client) = (udp(), udp());
    let to = udp.local_addr().expect("an address");
    let mut first = Process::new(&udp, Given::default());
    let second = Process::new(&udp, first.for_next());
    client.send_to(&packet(0, 1, 100), to).expect("sent");
    assert_eq!(first.receive_all(1).await[0].0[99], 1, "until it ends it reads it as well");
    first.end();
    client.send_to(&packet(0, 2, 100), to).expect("sent");
    first.has_nothing();
    second.has_nothing();
    assert_eq!(first.receive_all(1).await[0].0[99], 2);
    // The new one is gone at once.
    drop(second);
    client.send_to(&packet(0, 3, 100), to).expect("sent");
    assert_eq!(first.receive_all(1).await[0].0[99], 3);
    // It ends without having handed anything over.
    let mut alone = Process::new(&udp, Given::default());
    alone.end();
    client.send_to(&packet(0, 4, 100), to).expect("sent");
    assert_eq!(alone.receive_all(1).await[0].0[99], 4);
}

#[tokio::test]
async fn those_who_are_gone_are_not_passed_on() {
    let udp = udp();
    let first = Process::new(&udp, Given::default());
    let second = Process::new(&udp, first.for_next());
    assert_eq!(second.opened.for_next.len(), 2);
    let for_third = second.for_next();
    drop(first);
    let third = Process::new(&udp, for_third);
    assert_eq!((third.opened.generation, third.opened.for_next.len()), (2, 2));
    // Packets for it are left to the endpoint, which knows nothing of them.
    let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let to = udp.local_addr().expect("an address");
    client.send_to(&packet(0, 1, 100), to).expect("sent");
    client.send_to(&packet(2, 2, 100), to).expect("sent");
    let left = third.receive_all(2).await;
    assert_eq!((left[0].0[99], left[1].0[99]), (1, 2));
}
