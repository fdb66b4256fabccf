//! QUIC packets for a tidegate that handed its sockets over and still finishes its connections.
//!
//! Both processes have the same UDP sockets, and whoever reads a packet first takes it from the other. So the
//! new one alone reads them and passes on what is not for it: the ids that a process gives out carry its
//! generation (`steer`), and each socket comes with a way to whoever had it before, which a hand-over passes on
//! as it does the socket. A process that nobody passes packets to any more, as the one after it is gone,
//! reads the socket itself again.
//!
//! As on the network, what does not fit is lost and sent again.

mod message;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use nix::sys::socket::{MsgFlags, recv};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::given::Given;
use super::steer;

/// The ways of one socket.
#[derive(Debug)]
pub struct Ways {
    /// To those who had the socket before, by their generation.
    earlier: Vec<(u32, OwnedFd)>,
    /// From the one that has it after us.
    from_next: OwnedFd,
}

/// Those of the sockets of one address.
#[derive(Debug)]
pub struct Opened {
    /// The tidegates that had this address before, counted.
    pub generation: u32,
    /// In the order of the sockets.
    pub ways: Vec<Ways>,
    /// The other ends, by name: for a process that takes the sockets over.
    pub for_next: Vec<(String, OwnedFd)>,
}

impl Opened {
    /// For so many sockets of that address; those to earlier processes come from what was handed over.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn new(address: SocketAddr, sockets: usize, given: &mut Given) -> io::Result<Self> {
        let handed = given.handed_for(|name| generation_of(name, address));
        let generation = handed.last().map_or(0, |(last, _)| last.saturating_add(1));
        let mut opened = Self { generation, ways: Vec::new(), for_next: Vec::new() };
        for number in 0..sockets {
            // They came socket by socket, so that those of one generation have its sockets' order.
            let mut earlier = Vec::new();
            for of in handed.chunk_by(|one, other| one.0 == other.0) {
                let Some((generation, way)) = of.get(number).filter(|(_, way)| leads_on(way))
                else {
                    continue;
                };
                earlier.push((*generation, way.try_clone()?));
                opened.for_next.push((name(*generation, address), way.try_clone()?));
            }
            let (to_us, from_next) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
            for end in [&to_us, &from_next] {
                end.set_nonblocking(true)?;
            }
            opened.for_next.push((name(generation, address), to_us.into()));
            opened.ways.push(Ways { earlier, from_next: from_next.into() });
        }
        opened.for_next.sort_by_key(|(name, _)| generation_of(name, address));
        Ok(opened)
    }
}

fn name(generation: u32, address: SocketAddr) -> String {
    format!("quic {address} {generation}")
}

fn generation_of(name: &str, address: SocketAddr) -> Option<u32> {
    let (of, generation) = name.strip_prefix("quic ")?.split_once(' ')?;
    (of.parse() == Ok(address)).then(|| generation.parse().ok())?
}

/// Whether there is still somebody at its other end.
fn leads_on(way: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd as _;
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(way.as_raw_fd(), &mut [0], flags) == Err(nix::errno::Errno::EAGAIN)
}

/// A socket of which an endpoint reads what is for it.
pub struct Shared {
    udp: Arc<dyn AsyncUdpSocket>,
    earlier: Vec<(u32, OwnedFd)>,
    /// Of sequenced packets, and not datagrams: its end is told.
    from_next: UnixDatagram,
    /// It is for the next process to read, if there is one.
    left: AtomicBool,
    /// There is no next process, and will be none.
    last: AtomicBool,
}

impl Shared {
    /// # Errors
    /// There are no descriptors left.
    pub fn new(udp: &UdpSocket, ways: &Ways) -> io::Result<Self> {
        let earlier = ways.earlier.iter().map(|(of, way)| Ok((*of, way.try_clone()?)));
        Ok(Self {
            udp: TokioRuntime.wrap_udp_socket(udp.try_clone()?)?,
            earlier: earlier.collect::<io::Result<_>>()?,
            from_next: UnixDatagram::from_std(ways.from_next.try_clone()?.into())?,
            left: AtomicBool::new(false),
            last: AtomicBool::new(false),
        })
    }

    /// Leaves the reading to the process that took over, if one did.
    pub fn leave(&self) {
        self.left.store(true, Relaxed);
    }

    fn receive_passed(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        let mut received = 0;
        while received == 0 && !self.last.load(Relaxed) {
            let Poll::Ready(Ok(())) = self.from_next.poll_recv_ready(context) else { break };
            for (buffer, meta) in buffers.iter_mut().zip(metas.iter_mut()) {
                let receive = || message::receive(&self.from_next, buffer);
                match self.from_next.try_io(Interest::READABLE, receive) {
                    Ok(Some(passed)) => *meta = passed,
                    // None is there now.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // There is nobody any more, or nothing that could be understood.
                    Ok(None) | Err(_) => {
                        self.last.store(true, Relaxed);
                        break;
                    }
                }
                received += 1;
            }
        }
        if received == 0 { Poll::Pending } else { Poll::Ready(received) }
    }

    /// Passes on what is for earlier processes, and leaves the rest.
    fn sort(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let (mut at, mut kept) = (0, 0);
        while at < meta.len {
            let end = (at + meta.stride.max(1)).min(meta.len);
            let packet = &buffer[at..end];
            let of = steer::generation(packet);
            match of.and_then(|of| self.earlier.iter().find(|(earlier, _)| *earlier == of)) {
                Some((_, way)) => message::send(way, packet, meta),
                None => {
                    buffer.copy_within(at..end, kept);
                    kept += end - at;
                }
            }
            at = end;
        }
        meta.len = kept;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Shared").field("udp", &self.udp).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Shared {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.udp.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.udp.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(received) = self.receive_passed(context, buffers, metas) {
            return Poll::Ready(Ok(received));
        }
        if self.left.load(Relaxed) && !self.last.load(Relaxed) {
            return Poll::Pending;
        }
        let received = std::task::ready!(self.udp.poll_recv(context, buffers, metas))?;
        if !self.earlier.is_empty() {
            for (buffer, meta) in buffers.iter_mut().zip(metas.iter_mut()).take(received) {
                self.sort(buffer, meta);
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.udp.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.udp.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.udp.may_fragment()
    }
}
