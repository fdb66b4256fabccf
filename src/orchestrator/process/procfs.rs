//! What /proc says about processes and listening sockets. Reads only; knows nothing of ours.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The parts of /proc/PID/stat (proc(5)) that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: i32,
    pub(super) state: char,
    pub(super) group: i32,
    pub(super) session: i32,
    /// utime + stime + cutime + cstime, in clock ticks: its own and those of dead descendants
    /// that were waited for.
    pub(super) cpu: u64,
    /// Field 22, clock ticks since boot. With the pid it names one process of this boot.
    pub(super) start: u64,
    /// Resident pages.
    pub(super) resident: u64,
}

impl Stat {
    /// Of one process; `None` if there is none of this number.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether it only waits to be reaped.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may hold anything, also parentheses and blanks.
        let (pid, rest) = (text.split_once(' ')?.0, text.rsplit_once(')')?.1);
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Field n of proc(5) is at n - 3: the state is the first after the name.
        let number = |n: usize| fields.get(n - 3)?.parse::<i64>().ok();
        Some(Self {
            pid: pid.parse().ok()?,
            state: fields.first()?.chars().next()?,
            group: number(5)? as i32,
            session: number(6)? as i32,
            cpu: (number(14)? + number(15)? + number(16)? + number(17)?) as u64,
            start: number(22)? as u64,
            resident: number(24)?.max(0) as u64,
        })
    }
}

/// Every process there is, in no order.
pub(super) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Stat::of)
        .collect()
}

/// The value of a variable in the environment that a process was started with. `None` also if
/// it may not be read or the process has overwritten it (some use the space for a title).
pub(super) fn variable(pid: i32, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environ.split(|&b| b == 0).find_map(|pair| {
        pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
    })?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Changes with every boot: pids and start times mean nothing in another one.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// A listening TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) inode: u64,
}

/// All listening TCP sockets of our network namespace.
pub(super) fn listening() -> Vec<Listening> {
    let mut all = Vec::new();
    for file in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let Ok(file) = fs::File::open(file) else { continue };
        let rows = BufReader::new(file).lines().skip(1).map_while(Result::ok);
        // The kernel prints listening sockets first (tcp_seq_next goes through the listening
        // table, then the established one), so the thousands of others are not read.
        all.extend(rows.map_while(|row| parse_listening(&row)));
    }
    all
}

/// Whether a process holds a socket of one of these inodes.
pub(super) fn holds_socket(pid: i32, inodes: &[u64]) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.filter_map(Result::ok).any(|entry| {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let inode = target
            .to_str()
            .and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok());
        inode.is_some_and(|inode| inodes.contains(&inode))
    })
}

/// One row of /proc/net/tcp or tcp6; `None` if it is not in state LISTEN (0A).
fn parse_listening(row: &str) -> Option<Listening> {
    let mut fields = row.split_ascii_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != "0A" {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    let (address, port) = local.split_once(':')?;
    Some(Listening {
        address: parse_address(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode,
    })
}

/// Addresses are printed as 32-bit words in the machine's byte order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for n in 0..4 {
                bytes[n * 4..n * 4 + 4].copy_from_slice(&word(n * 8)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_an_odd_name() {
        let line = "4711 (a) b (c) S 1 4711 4700 0 -1 4194560 100 0 0 0 7 3 2 1 20 0 1 0 \
                    987654 2482176 221 18446744073709551615 1 1 0 0 0";
        let stat = Stat::parse(line).expect("well formed");
        assert_eq!((stat.pid, stat.state, stat.group, stat.session), (4711, 'S', 4711, 4700));
        assert_eq!((stat.cpu, stat.start, stat.resident), (13, 987_654, 221));
        assert_eq!(Stat::parse("4711 (x) S 1"), None);
    }

    #[test]
    fn we_are_found_among_all() {
        let me = std::process::id() as i32;
        let stat = Stat::of(me).expect("we live");
        assert!(!stat.is_dead() && stat.resident > 0);
        assert!(all().iter().any(|s| s.pid == me && s.start == stat.start));
        assert!(!boot_id().is_empty());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn rows_of_listening_sockets() {
        let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     \
                  0        0 12345 1 0000000000000000 100 0 0 10 0";
        let expected = Listening { address: Ipv4Addr::LOCALHOST.into(), port: 8080, inode: 12345 };
        assert_eq!(parse_listening(v4), Some(expected));
        assert_eq!(parse_listening(&v4.replace(" 0A ", " 01 ")), None);
        let v6 = v4.replace("0100007F", "00000000000000000000000001000000");
        assert_eq!(parse_listening(&v6).map(|l| l.address), Some(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn a_socket_of_ours_is_ours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let found: Vec<_> = listening().into_iter().filter(|l| l.port == port).collect();
        assert_eq!(found.len(), 1);
        assert!(holds_socket(std::process::id() as i32, &[found[0].inode]));
        assert!(!holds_socket(std::process::id() as i32, &[u64::MAX]));
    }
}
