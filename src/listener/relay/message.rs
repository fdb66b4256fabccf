//! A packet and how it came, as one message of a sequenced-packet socket (unix(7)):
//!
//! ```text
//! flags (1)  ECN (1)  port (2)  scope (4)  sender (16)  address that it was sent to (16)  packet
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, UnixAddr, recvmsg, sendmsg};
use quinn::udp::{EcnCodepoint, RecvMeta};

const HEAD: usize = 40;

const FROM_V4: u8 = 1;
const HAS_TARGET: u8 = 2;
const TO_V4: u8 = 4;

fn head(meta: &RecvMeta) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let scope = match meta.addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    };
    head[0] = if meta.addr.is_ipv4() { FROM_V4 } else { 0 };
    if let Some(target) = meta.dst_ip {
        head[0] |= HAS_TARGET | if target.is_ipv4() { TO_V4 } else { 0 };
        head[24..].copy_from_slice(&octets(target));
    }
    head[1] = meta.ecn.map_or(0, |ecn| ecn as u8);
    head[2..4].copy_from_slice(&meta.addr.port().to_be_bytes());
    head[4..8].copy_from_slice(&scope.to_be_bytes());
    head[8..24].copy_from_slice(&octets(meta.addr.ip()));
    head
}

/// What it says, but for the packet's length.
fn meta(head: [u8; HEAD], len: usize) -> RecvMeta {
    let [flags, ecn, p0, p1, s0, s1, s2, s3, addresses @ ..] = head;
    let address = |v4: u8, octets: &[u8]| {
        let octets: [u8; 16] = octets.try_into().unwrap_or_default();
        let v6 = Ipv6Addr::from(octets);
        v6.to_ipv4_mapped().filter(|_| flags & v4 != 0).map_or(IpAddr::V6(v6), IpAddr::V4)
    };
    let (port, scope) = (u16::from_be_bytes([p0, p1]), u32::from_be_bytes([s0, s1, s2, s3]));
    let addr = match address(FROM_V4, &addresses[..16]) {
        IpAddr::V4(v4) => SocketAddr::from((v4, port)),
        IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, port, 0, scope)),
    };
    let mut meta = RecvMeta::default();
    (meta.addr, meta.len, meta.stride) = (addr, len, len);
    meta.ecn = EcnCodepoint::from_bits(ecn);
    meta.dst_ip = (flags & HAS_TARGET != 0).then(|| address(TO_V4, &addresses[16..]));
    meta
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Passes a packet on that came so. It is lost where there is no room, or nobody.
pub fn send(way: &impl AsRawFd, packet: &[u8], meta: &RecvMeta) {
    let head = head(meta);
    let parts = [IoSlice::new(&head), IoSlice::new(packet)];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let _ = sendmsg::<UnixAddr>(way.as_raw_fd(), &parts, &[], flags, None);
}

/// The next one; `None` when there will be none any more.
///
/// # Errors
/// There is none now.
pub fn receive(way: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Option<RecvMeta>> {
    let mut head = [0; HEAD];
    let mut parts = [IoSliceMut::new(&mut head), IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let bytes = recvmsg::<UnixAddr>(way.as_raw_fd(), &mut parts, None, flags)?.bytes;
    Ok(bytes.checked_sub(HEAD).map(|length| meta(head, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_a_packet_came() {
        let cases = [
            ("127.0.0.1:443", None, None),
            ("10.1.2.3:65535", Some("10.0.0.1"), Some(EcnCodepoint::Ce)),
            ("[2001:db8::1]:1", Some("2001:db8::2"), Some(EcnCodepoint::Ect0)),
            ("[::ffff:1.2.3.4]:80", Some("::ffff:1.2.3.5"), Some(EcnCodepoint::Ect1)),
            ("[fe80::1%7]:9", Some("fe80::2"), None),
        ];
        for (from, to, ecn) in cases {
            let mut sent = RecvMeta::default();
            (sent.addr, sent.len, sent.stride) = (from.parse().expect("address"), 1200, 1200);
            (sent.dst_ip, sent.ecn) = (to.map(|to| to.parse().expect("address")), ecn);
            let came = meta(head(&sent), 1200);
            assert_eq!(came.addr, sent.addr);
            assert_eq!((came.dst_ip, came.ecn), (sent.dst_ip, sent.ecn), "{from}");
            assert_eq!((came.len, came.stride), (1200, 1200));
        }
    }
}
