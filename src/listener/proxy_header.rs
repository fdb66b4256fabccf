//! The PROXY protocol, versions 1 and 2: a balancer before us says whom it stands for.
//!
//! Source: HAProxy's specification (doc/proxy-protocol.txt). The header comes before anything else, TLS
//! included, so it is read from the bare socket, and not one byte beyond it. Whether the peer may send one at
//! all is decided by who calls.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const V1: &[u8] = b"PROXY ";
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The shortest header of either version has more.
const FIRST: usize = 12;
/// The longest header of version 1, its end included.
const V1_MOST: usize = 107;
/// The longest one of version 2 that is taken, with all that it may say besides addresses.
const V2_MOST: usize = 4096;
/// In front of the addresses of version 2: the signature and four bytes.
const V2_HEAD: usize = 16;

/// Why what came is no PROXY header.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    #[error("the PROXY header is not valid: {0}")]
    Invalid(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

use HeaderError::Invalid;

/// Reads the header off a connection; the client that it names, `None` where the sender speaks for itself
/// (LOCAL, UNKNOWN, unix sockets). The caller bounds the time.
///
/// # Errors
/// There is none, it is not valid, or the connection broke.
pub async fn read(tcp: &mut TcpStream) -> Result<Option<SocketAddr>, HeaderError> {
    let mut first = [0; FIRST];
    tcp.read_exact(&mut first).await?;
    if first == *V2 {
        return read_v2(tcp).await;
    }
    if !first.starts_with(V1) {
        return Err(HeaderError::Missing);
    }
    let mut line = first.to_vec();
    let mut next = [0; V1_MOST];
    // What is looked at stays on the socket: only what belongs to the line is taken.
    while !line.ends_with(b"\n") {
        let most = V1_MOST.saturating_sub(line.len());
        let seen = tcp.peek(&mut next[..most]).await?;
        if seen == 0 {
            return Err(Invalid("the line of version 1 does not end"));
        }
        let taken = memchr::memchr(b'\n', &next[..seen]).map_or(seen, |end| end + 1);
        tcp.read_exact(&mut next[..taken]).await?;
        line.extend_from_slice(&next[..taken]);
    }
    parse_v1(&line)
}

/// The client that a whole header names, the same without a connection.
///
/// # Errors
/// It is none.
#[cfg(any(test, feature = "fuzzing"))]
pub fn parse(bytes: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    match bytes.split_first_chunk() {
        Some((V2, [version_command, family, high, low, body @ ..])) => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let body = body.get(..length).filter(|_| length <= V2_MOST);
            parse_v2(*version_command, *family, body.ok_or(HeaderError::Missing)?)
        }
        _ if bytes.starts_with(V1) && bytes.len() <= V1_MOST => parse_v1(bytes),
        _ => Err(HeaderError::Missing),
    }
}

async fn read_v2(tcp: &mut TcpStream) -> Result<Option<SocketAddr>, HeaderError> {
    let mut rest = [0; V2_HEAD - FIRST];
    tcp.read_exact(&mut rest).await?;
    let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
    if length > V2_MOST {
        return Err(Invalid("it is longer than 4 KiB"));
    }
    let mut body = vec![0; length];
    tcp.read_exact(&mut body).await?;
    parse_v2(rest[0], rest[1], &body)
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n` (section 2.1).
fn parse_v1(line: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    let line = line.strip_suffix(b"\r\n").ok_or(Invalid("its line does not end in CR LF"))?;
    let text = std::str::from_utf8(line).map_err(|_| Invalid("it is not ASCII"))?;
    let mut words = text.split(' ');
    let family = words.nth(1).unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let mut word = || words.next().ok_or(Invalid("addresses or ports are missing"));
    let (source, target) = (word()?, word()?);
    let (port, target_port) = (word()?, word()?);
    if words.next().is_some() {
        return Err(Invalid("there is more than two addresses and two ports"));
    }
    let address = |text: &str| -> Result<IpAddr, HeaderError> {
        match family {
            "TCP4" => Ok(text.parse::<Ipv4Addr>().map_err(|_| Invalid("no IPv4 address"))?.into()),
            "TCP6" => Ok(text.parse::<Ipv6Addr>().map_err(|_| Invalid("no IPv6 address"))?.into()),
            _ => Err(Invalid("the family is neither TCP4 nor TCP6 nor UNKNOWN")),
        }
    };
    address(target)?;
    number(target_port)?;
    Ok(Some(SocketAddr::new(address(source)?, number(port)?)))
}

/// Digits only, no zeros in front.
fn number(text: &str) -> Result<u16, HeaderError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if plain && (text == "0" || !text.starts_with('0')) => Ok(port),
        _ => Err(Invalid("a port is not a number up to 65535")),
    }
}

/// Section 2.2; what comes after the addresses (TLVs) is not looked at.
fn parse_v2(
    version_command: u8,
    family: u8,
    body: &[u8],
) -> Result<Option<SocketAddr>, HeaderError> {
    match version_command {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(Invalid("it is neither LOCAL nor PROXY of version 2")),
    }
    let short = || Invalid("it is too short for its addresses");
    match family {
        // Over a stream, or over datagrams: it makes no difference to whom it names.
        0x11 | 0x12 => {
            let body: &[u8; 12] = body.first_chunk().ok_or_else(short)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *body;
            let port = u16::from_be_bytes([high, low]);
            Ok(Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port)))
        }
        0x21 | 0x22 => {
            let body: &[u8; 36] = body.first_chunk().ok_or_else(short)?;
            let source: &[u8; 16] = body.first_chunk().ok_or_else(short)?;
            let port = u16::from_be_bytes([body[32], body[33]]);
            Ok(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port)))
        }
        // UNSPEC, unix sockets: the sender's own address is the best there is.
        0x00 | 0x31 | 0x32 => Ok(None),
        _ => Err(Invalid("its address family is not known")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v1(line: &str) -> Result<Option<String>, String> {
        let parsed = parse_v1(line.as_bytes());
        parsed.map(|a| a.map(|a| a.to_string())).map_err(|e| e.to_string())
    }

    #[test]
    fn version_1_names_the_client() {
        let named = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(v1("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), named("192.0.2.1:56324"));
        assert_eq!(v1("PROXY TCP6 2001:db8::1 ::1 0 443\r\n"), named("[2001:db8::1]:0"));
        assert_eq!(v1("PROXY UNKNOWN\r\n"), Ok(None));
        assert_eq!(v1("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), Ok(None));
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 01 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 x\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.1 1 1\r\n",
            "PROXY TCP4 ::1 ::1 1 1\r\n",
            "PROXY TCP6 192.0.2.1 ::1 1 1\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.1 1 1\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 1\r\n",
            "PROXY TCP4\r\n",
        ] {
            assert!(v1(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn version_2_names_the_client() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb];
        let client = parse_v2(0x21, 0x11, &v4).expect("valid");
        assert_eq!(client, Some("192.0.2.1:56324".parse().expect("an address")));
        let with_tlv = [&v4[..], &[1, 0, 2, b'h', b'2']].concat();
        assert_eq!(parse_v2(0x21, 0x11, &with_tlv).expect("valid"), client);
        let mut v6 = [0; 36];
        v6[15] = 1;
        (v6[32], v6[33]) = (0, 80);
        let client = parse_v2(0x21, 0x21, &v6).expect("valid");
        assert_eq!(client, Some("[::1]:80".parse().expect("an address")));
        assert_eq!(parse_v2(0x20, 0x11, &v4).expect("LOCAL"), None);
        assert_eq!(parse_v2(0x21, 0x31, &[0; 216]).expect("unix"), None);
        assert_eq!(parse_v2(0x21, 0, &[]).expect("UNSPEC"), None);
        for (command, family, body) in
            [(0x11, 0x11, &v4[..]), (0x22, 0x11, &v4), (0x21, 0x41, &v4), (0x21, 0x11, &v4[..11])]
        {
            assert!(parse_v2(command, family, body).is_err(), "{command:x} {family:x}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(line in prop::collection::vec(any::<u8>(), 0..120), a: u8, b: u8) {
            let _ = parse_v1(&line);
            let _ = parse_v2(a, b, &line);
        }
    }
}
