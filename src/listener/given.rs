//! Sockets that this process was given instead of binding them: by a service manager (socket
//! activation, sd_listen_fds(3)) or by the tidegate before it (see `control::handover`).
//!
//! The one place where numbers become descriptors that we own. What they are used for is left to
//! who takes them by name; what nobody takes is closed with the value.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The first descriptor of socket activation, after standard input, output and error.
const FIRST: RawFd = 3;
/// More than anybody passes: a mistyped number must not become a loop over all descriptors.
const MOST: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct Given {
    /// From the service manager; used as `fd:NAME`.
    activated: Vec<(String, OwnedFd)>,
    /// From the tidegate before us, by the names that it gave them.
    handed: Vec<(String, OwnedFd)>,
}

/// Why the sockets of a service manager cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    #[error("LISTEN_FDS: {0:?} is not a number of sockets")]
    Count(String),
    #[error("LISTEN_FDNAMES names {names} sockets, LISTEN_FDS says {fds}")]
    Names { names: usize, fds: usize },
    #[error("LISTEN_FDS: descriptor {number} ({name:?}) is not there: {error}")]
    NotThere { number: RawFd, name: String, error: io::Error },
}

/// Why there is no socket of a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "no socket of this name was passed{0}; a socket unit gives it one with FileDescriptorName="
    )]
    Unknown(String),
    #[error("{0} sockets of this name were passed; give each a FileDescriptorName= of its own")]
    Several(usize),
}

impl Given {
    /// What a service manager passed to this process (LISTEN_PID says to whom). To be called once, at
    /// the start, before anything else may have opened descriptors.
    ///
    /// # Errors
    /// The variables contradict each other or what is there.
    pub fn by_manager() -> Result<Self, GivenError> {
        let variable = |name| std::env::var(name).ok();
        if variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
            return Ok(Self::default());
        }
        let names = names(variable("LISTEN_FDS"), variable("LISTEN_FDNAMES"))?;
        let mut given = Self::default();
        for (number, name) in (FIRST..).zip(names) {
            match own(number) {
                Ok(fd) => given.activated.push((name, fd)),
                Err(error) => return Err(GivenError::NotThere { number, name, error }),
            }
        }
        Ok(given)
    }

    /// What another tidegate handed over.
    pub fn by_predecessor(handed: Vec<(String, OwnedFd)>) -> Self {
        Self { activated: Vec::new(), handed }
    }

    /// The one socket that the manager gave this name.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn activated(&mut self, name: &str) -> Result<OwnedFd, NameError> {
        match self.activated.iter().filter(|(known, _)| known == name).count() {
            1 => {}
            0 => {
                let known: Vec<_> = self.activated.iter().map(|(name, _)| name.as_str()).collect();
                let known = match &known[..] {
                    [] => String::new(),
                    known => format!(" (there are: {})", known.join(", ")),
                };
                return Err(NameError::Unknown(known));
            }
            several => return Err(NameError::Several(several)),
        }
        let at = self.activated.iter().position(|(known, _)| known == name).expect("counted above");
        Ok(self.activated.swap_remove(at).1)
    }

    /// Everything handed over under this name, in the order in which it came.
    pub fn handed(&mut self, name: &str) -> Vec<OwnedFd> {
        self.take(|known| (known == name).then_some(()))
    }

    /// The same for all names that begin so.
    pub fn handed_as(&mut self, prefix: &str) -> Vec<OwnedFd> {
        self.take(|known| known.starts_with(prefix).then_some(()))
    }

    fn take(&mut self, of: impl Fn(&str) -> Option<()>) -> Vec<OwnedFd> {
        self.handed_for(of).into_iter().map(|(_, fd)| fd).collect()
    }

    /// The same for all names of which `of` makes something, with that.
    pub fn handed_for<T>(&mut self, of: impl Fn(&str) -> Option<T>) -> Vec<(T, OwnedFd)> {
        let mut found = Vec::new();
        for (name, fd) in std::mem::take(&mut self.handed) {
            match of(&name) {
                Some(made) => found.push((made, fd)),
                None => self.handed.push((name, fd)),
            }
        }
        found
    }

    /// The names of what nobody took.
    pub fn unused(&self) -> Vec<&str> {
        self.activated.iter().chain(&self.handed).map(|(name, _)| name.as_str()).collect()
    }
}

/// A name for each; `unknown` where the manager gives none, as sd_listen_fds_with_names(3) says.
fn names(fds: Option<String>, names: Option<String>) -> Result<Vec<String>, GivenError> {
    let Some(fds) = fds else { return Ok(Vec::new()) };
    let count = match fds.parse() {
        Ok(count) if count <= MOST => count,
        _ => return Err(GivenError::Count(fds)),
    };
    let Some(names) = names else { return Ok(vec!["unknown".to_owned(); count]) };
    let names: Vec<String> = match count {
        0 => Vec::new(),
        _ => names.split(':').map(str::to_owned).collect(),
    };
    match names.len() == count {
        true => Ok(names),
        false => Err(GivenError::Names { names: names.len(), fds: count }),
    }
}

/// Takes a descriptor that the environment promised to us.
fn own(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: borrowed for this call only; a number that is no descriptor is refused with EBADF.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    // Whatever we start must not have it too.
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and the environment says that it was passed to this process for us to
    // own. Nothing else takes it: this is called once, before anything else uses numbers.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn socket() -> OwnedFd {
        std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").into()
    }

    #[test]
    fn every_descriptor_has_a_name() {
        assert_eq!(names(text("2"), text("a:b")).expect("two"), ["a", "b"]);
        assert_eq!(names(text("2"), None).expect("two"), ["unknown", "unknown"]);
        assert!(names(None, text("a")).expect("none").is_empty());
        assert!(names(text("0"), text("")).expect("none").is_empty());
        assert!(matches!(names(text("2"), text("a")), Err(GivenError::Names { names: 1, fds: 2 })));
        for wrong in ["-1", "two", "100000"] {
            assert!(matches!(names(text(wrong), None), Err(GivenError::Count(_))), "{wrong}");
        }
    }

    #[test]
    fn a_name_stands_for_one_socket() {
        let all = ["a", "b", "b"].map(|name| (name.to_owned(), socket()));
        let mut given = Given { activated: all.into(), handed: Vec::new() };
        assert!(given.activated("a").is_ok());
        assert_eq!(
            given.activated("a").expect_err("taken"),
            NameError::Unknown(" (there are: b, b)".into())
        );
        assert_eq!(given.activated("b").expect_err("two"), NameError::Several(2));
        assert_eq!(given.unused(), ["b", "b"]);
    }

    #[test]
    fn what_was_handed_over_comes_in_order() {
        use std::os::fd::AsRawFd as _;
        let all: Vec<_> = ["x", "y", "x"].map(|name| (name.to_owned(), socket())).into();
        let wanted = [all[0].1.as_raw_fd(), all[2].1.as_raw_fd()];
        let mut given = Given::by_predecessor(all);
        let found: Vec<_> = given.handed("x").iter().map(|fd| fd.as_raw_fd()).collect();
        assert_eq!(found, wanted);
        assert_eq!((given.handed("x").len(), given.unused()), (0, vec!["y"]));
    }
}
