//! Which worker a QUIC packet goes to: the one whose socket's number is in its connection id.
//!
//! The kernel would choose among sockets of one address by the addresses of both ends. A client that
//! moves to another network, or whose NAT gives it another port, would come to a worker that knows nothing
//! of it. So the first two bytes of the ids that we give out say which socket it is (modulo their
//! number), and a filter of six instructions in the kernel, which needs no rights, chooses by them. An
//! id that the client made up for its first packet leads to some worker, and always the same.
//!
//! Where the kernel takes no such filter the addresses decide: then only clients that move lose their
//! connections.
//!
//! The next four bytes are the generation of the process that gave the id out, by which its packets are told
//! from those of the processes before it (`relay`).

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};

/// Bytes of our ids: two that say the socket, and are as random as that leaves them, the generation, and six random ones.
const LENGTH: usize = 12;
/// Bytes of a long header before the id (RFC 8999 §5.1), the last of which is the id's length; of a short one (§5.2).
const BEFORE_LONG: usize = 6;
const BEFORE_SHORT: usize = 1;
const LONG: u8 = 0x80;

/// Ids that lead to one socket.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    number: u16,
    sockets: u16,
    generation: u32,
}

impl Ids {
    /// There are 256 workers at most, each with one or a few.
    pub fn new(number: usize, sockets: usize, generation: u32) -> Self {
        Self { number: number as u16, sockets: sockets.max(1) as u16, generation }
    }
}

/// The generation in the id that a packet is for, if it is as long as ours. One that a client made up says
/// something as well: chance, of one in four billion.
pub fn generation(packet: &[u8]) -> Option<u32> {
    let id = match packet.first()? & LONG {
        0 => packet.get(BEFORE_SHORT..BEFORE_SHORT + LENGTH)?,
        _ if usize::from(*packet.get(BEFORE_LONG - 1)?) != LENGTH => return None,
        _ => packet.get(BEFORE_LONG..BEFORE_LONG + LENGTH)?,
    };
    Some(u32::from_be_bytes([id[2], id[3], id[4], id[5]]))
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; LENGTH];
        // Without random numbers TLS would have failed before.
        let _ = aws_lc_rs::rand::fill(&mut id);
        let random = u16::from_be_bytes([id[0], id[1]]);
        let full = random - random % self.sockets;
        let steered = full.checked_add(self.number).unwrap_or(self.number);
        id[..2].copy_from_slice(&steered.to_be_bytes());
        id[2..6].copy_from_slice(&self.generation.to_be_bytes());
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Has the kernel choose among so many sockets of one address, of which this is one; their order is that
/// in which they were bound.
///
/// # Errors
/// The kernel does not take the filter.
pub fn steer(socket: &UdpSocket, sockets: usize) -> io::Result<()> {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const LOAD_TWO: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const IF_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const SKIP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
    const MODULO: u16 = (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_A) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD_BYTE, 0, 0, 0),
        // Long headers have version and length before the id (RFC 8999 §5).
        step(IF_SET, 0, 2, u32::from(LONG)),
        step(LOAD_TWO, 0, 0, BEFORE_LONG as u32),
        step(SKIP, 0, 0, 1),
        step(LOAD_TWO, 0, 0, BEFORE_SHORT as u32),
        step(MODULO, 0, 0, sockets.max(1) as u32),
        step(RETURN, 0, 0, 0),
    ];
    let program =
        libc::sock_fprog { len: steps.len() as libc::c_ushort, filter: steps.as_mut_ptr() };
    #[allow(unsafe_code)]
    // SAFETY: the option takes a sock_fprog, whose size is given; the kernel copies it and the steps that
    // it points to, which live until then.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_worker_and_is_random_otherwise() {
        for workers in [1, 2, 3, 7, 64, 256] {
            for worker in [0, workers / 2, workers - 1] {
                let mut ids = Ids::new(worker, workers, 70_000);
                let (one, two) = (ids.generate_cid(), ids.generate_cid());
                assert_eq!(one.len(), ids.cid_len());
                assert_ne!(one, two);
                for id in [one, two] {
                    let number = usize::from(u16::from_be_bytes([id[0], id[1]]));
                    assert_eq!(number % workers, worker, "of {workers}");
                }
            }
        }
    }
    #[test]
    fn a_packet_says_the_generation_that_it_is_for() {
        let id = Ids::new(3, 7, 70_000).generate_cid();
        let short = [&[0x40][..], &id, &[1; 20]].concat();
        let long = [&[0xc0, 0, 0, 0, 1, LENGTH as u8][..], &id, &[1; 20]].concat();
        for packet in [&short, &long] {
            assert_eq!(generation(packet), Some(70_000));
            for end in 0..packet.len() - 20 {
                assert_eq!(generation(&packet[..end]), None);
            }
        }
        let other = [&[0xc0, 0, 0, 0, 1, 8][..], &id, &[1; 20]].concat();
        assert_eq!(generation(&other), None);
    }
}
