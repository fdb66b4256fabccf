//! Telling a service manager how we are (sd_notify(3)): ready, reloading, stopping, alive.
//!
//! The protocol is a datagram of `NAME=value` lines to the socket that NOTIFY_SOCKET names: a path,
//! or with `@` before it a name in Linux's abstract namespace. Without the variable nothing is said.
//! When to say what is left to the callers; what "alive" means is in `watchdog`.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Longest wait for a manager that does not read. It only delays what was to be told.
const PATIENCE: Duration = Duration::from_secs(1);

/// Variables that are meant for this process and not for those it starts.
pub const OURS: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// It wants a sign of life at least this often.
    watchdog: Option<Duration>,
}

impl Manager {
    /// As the environment says. What it says wrong is told and left out: a manager that hears
    /// nothing ends us anyway.
    pub fn of_process() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let socket = variable("NOTIFY_SOCKET").and_then(|name| match open(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("NOTIFY_SOCKET {}: {error}", name.display());
                None
            }
        });
        let text = |name: &str| variable(name)?.into_string().ok();
        let watchdog = watchdog(text("WATCHDOG_USEC"), text("WATCHDOG_PID"), std::process::id());
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    /// How often a sign of life is wanted at the least.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// A reload begins; [`Manager::ready`] follows, also if it fails. The time lets a manager tell
    /// this reload from one before.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// Another process is the service from now on.
    pub fn main_pid(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, message: &str) {
        let Some((socket, to)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), to) {
            tracing::warn!("the service manager cannot be told ({message:?}): {error}");
        }
    }
}

fn open(name: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("neither a path nor @ and a name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok((socket, to))
}

/// WATCHDOG_USEC, unless WATCHDOG_PID says that it is for another process.
fn watchdog(usec: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let usec = usec?.parse().ok().filter(|&usec: &u64| usec > 0)?;
    Some(Duration::from_micros(usec))
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bound");
        let name = format!("tidegate-test-{}-{}", std::process::id(), fastrand::u64(..));
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&abstract_name).expect("bound");
        for (manager, to) in
            [(by_path, path.into_os_string()), (by_name, OsString::from(format!("@{name}")))]
        {
            let told = Manager { socket: Some(open(&to).expect("opened")), watchdog: None };
            told.ready("2 services\nFDSTORE=1");
            told.main_pid(7);
            let mut buffer = [0; 256];
            let mut next = || {
                let read = manager.recv(&mut buffer).expect("told");
                String::from_utf8_lossy(&buffer[..read]).into_owned()
            };
            assert_eq!(next(), "READY=1\nSTATUS=2 services FDSTORE=1");
            assert_eq!(next(), "MAINPID=7");
        }
        assert!(open(&OsString::from("vsock:1:2")).is_err());
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let text = |text: &str| Some(text.to_owned());
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(text("1000000"), None, 5), second);
        assert_eq!(watchdog(text("1000000"), text("5"), 5), second);
        assert_eq!(watchdog(text("1000000"), text("6"), 5), None);
        assert_eq!(watchdog(text("0"), None, 5), None);
        assert_eq!(watchdog(text("soon"), None, 5), None);
        assert_eq!(watchdog(None, text("5"), 5), None);
    }
}
