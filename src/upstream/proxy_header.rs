//! PROXY headers to backends, versions 1 and 2: whom a connection stands for.
//!
//! Source: HAProxy's specification (doc/proxy-protocol.txt). The header goes before anything else, TLS included,
//! so a connection that has one is one client's for as long as it lives.

use std::net::{IpAddr, SocketAddr};

use crate::config::types::ProxyHeader;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and the commands.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// TCP over IPv4, and over IPv6.
const INET: u8 = 0x11;
const INET6: u8 = 0x21;

/// A client's connection to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    pub client: SocketAddr,
    /// Where it was accepted.
    pub local: SocketAddr,
}

/// The header; empty where none is asked for. `ends`: `None` where we speak for ourselves, as a check does.
pub fn of(version: ProxyHeader, ends: Option<&Ends>) -> Vec<u8> {
    match (version, ends) {
        (ProxyHeader::Off, _) => Vec::new(),
        (ProxyHeader::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyHeader::V1, Some(ends)) => v1(ends).into_bytes(),
        (ProxyHeader::V2, None) => v2(LOCAL, 0, &[]),
        (ProxyHeader::V2, Some(ends)) => {
            let (family, addresses) = match ips(ends) {
                (IpAddr::V4(from), IpAddr::V4(to)) => (INET, [from.octets(), to.octets()].concat()),
                (from, to) => (INET6, [wide(from), wide(to)].concat()),
            };
            let mut block = addresses;
            block.extend_from_slice(&ends.client.port().to_be_bytes());
            block.extend_from_slice(&ends.local.port().to_be_bytes());
            v2(PROXY, family, &block)
        }
    }
}

fn v1(ends: &Ends) -> String {
    let (from, to) = ips(ends);
    let (client, local) = (ends.client.port(), ends.local.port());
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            format!("PROXY TCP4 {from} {to} {client} {local}\r\n")
        }
        (from, to) => {
            let (from, to) = (IpAddr::from(wide(from)), IpAddr::from(wide(to)));
            format!("PROXY TCP6 {from} {to} {client} {local}\r\n")
        }
    }
}

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(16 + block.len());
    header.extend_from_slice(SIGNATURE);
    header.extend_from_slice(&[command, family]);
    // 36 bytes at most.
    header.extend_from_slice(&(block.len() as u16).to_be_bytes());
    header.extend_from_slice(block);
    header
}

/// Both addresses, neither of them an IPv4 address within IPv6.
fn ips(ends: &Ends) -> (IpAddr, IpAddr) {
    (ends.client.ip().to_canonical(), ends.local.ip().to_canonical())
}

/// A header has one family: IPv4 goes within IPv6 where the other address is one of that.
fn wide(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, local: &str) -> Ends {
        let at = |text: &str| text.parse().expect("an address");
        Ends { client: at(client), local: at(local) }
    }

    #[test]
    fn version_1_is_a_line() {
        let line = |client, local| {
            String::from_utf8(of(ProxyHeader::V1, Some(&ends(client, local)))).expect("ASCII")
        };
        let v4 = "PROXY TCP4 192.0.2.1 192.0.2.2 4000 80\r\n";
        assert_eq!(line("192.0.2.1:4000", "192.0.2.2:80"), v4);
        assert_eq!(line("[::ffff:192.0.2.1]:4000", "192.0.2.2:80"), v4);
        let v6 = "PROXY TCP6 2001:db8::1 2001:db8::2 4000 80\r\n";
        assert_eq!(line("[2001:db8::1]:4000", "[2001:db8::2]:80"), v6);
        let both = "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 4000 80\r\n";
        assert_eq!(line("[2001:db8::1]:4000", "192.0.2.2:80"), both);
        assert_eq!(of(ProxyHeader::V1, None), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_bytes() {
        let header = of(ProxyHeader::V2, Some(&ends("192.0.2.1:4000", "192.0.2.2:80")));
        let mut wanted = SIGNATURE.to_vec();
        wanted.extend([0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 0x0f, 0xa0, 0, 80]);
        assert_eq!(header, wanted);
        let header = of(ProxyHeader::V2, Some(&ends("[2001:db8::1]:4000", "192.0.2.2:80")));
        assert_eq!((&header[12..16], header.len()), (&[0x21, 0x21, 0, 36][..], 52));
        assert_eq!(header[32..48], wide(IpAddr::from([192, 0, 2, 2])));
        assert_eq!(of(ProxyHeader::V2, None), [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat());
        assert!(of(ProxyHeader::Off, None).is_empty());
    }
}
