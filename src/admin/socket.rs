//! The admin sockets: TCP or a unix socket, bound before anything runs.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Type};
use tokio::io::{AsyncRead, AsyncWrite};

use super::guard::Peer;
use crate::config::types::AdminListen;

/// Owner and group may use the unix socket.
const MODE: u32 = 0o660;

/// An address of the admin API that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("admin {address}: {error}")]
pub struct BindError {
    pub address: String,
    pub error: io::Error,
}

/// A bound socket that nobody accepts on yet.
#[derive(Debug)]
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

/// Removes the unix socket's file when the socket is done with, if it is ours by then: while a
/// tidegate takes over from another, the file is the other's.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    ours: Arc<AtomicBool>,
}

/// A socket that accepts.
pub enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(
        tokio::net::UnixListener,
        #[expect(dead_code, reason = "removes the file when dropped")] SocketFile,
    ),
}

/// Any connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl Bound {
    /// # Errors
    /// The address is in use (for a unix socket: a process answers on it), or not ours to take.
    pub fn new(listen: &AdminListen, ours: &Arc<AtomicBool>) -> Result<Self, BindError> {
        match listen {
            AdminListen::Tcp(address) => Self::tcp(*address),
            AdminListen::Unix(path) => bind_unix(path, ours)
                .map_err(|error| BindError { address: format!("unix:{}", path.display()), error }),
        }
    }

    /// A socket that another tidegate bound for the same `listen`.
    pub fn passed(listen: &AdminListen, socket: OwnedFd, ours: &Arc<AtomicBool>) -> Self {
        match listen {
            AdminListen::Tcp(_) => Self::Tcp(socket.into()),
            AdminListen::Unix(path) => {
                let file = SocketFile { path: path.clone(), ours: ours.clone() };
                Self::Unix(socket.into(), file)
            }
        }
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn again(&self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Tcp(listener) => listener.try_clone()?.into(),
            Self::Unix(listener, _) => listener.try_clone()?.into(),
        })
    }

    pub fn tcp(address: SocketAddr) -> Result<Self, BindError> {
        let bind = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Self::Tcp(listener))
        };
        bind().map_err(|error| BindError { address: address.to_string(), error })
    }

    /// As clients take it: `http://127.0.0.1:9900` or `unix:/run/tidegate/admin.sock`.
    pub fn url(&self) -> String {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("http://{address}"),
                Err(_) => "http://unknown".into(),
            },
            Self::Unix(_, file) => format!("unix:{}", file.path.display()),
        }
    }

    /// # Errors
    /// There is no tokio runtime with I/O around.
    pub fn start(self) -> io::Result<Acceptor> {
        Ok(match self {
            Self::Tcp(listener) => Acceptor::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Self::Unix(listener, file) => {
                Acceptor::Unix(tokio::net::UnixListener::from_std(listener)?, file)
            }
        })
    }
}

impl Acceptor {
    /// Cancel-safe.
    pub async fn accept(&self) -> io::Result<(Box<dyn Io>, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Small answers; an error here only costs latency.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), Peer::Tcp(address)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let who = stream.peer_cred().ok();
                let uid = who.as_ref().map(|who| who.uid());
                let pid = who.as_ref().and_then(|who| who.pid());
                Ok((Box::new(stream), Peer::Unix { uid, pid }))
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours.load(SeqCst) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_unix(path: &Path, ours: &Arc<AtomicBool>) -> io::Result<Bound> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux gives the file the mode of the unbound socket (less the umask), so there is no
    // moment in which others could connect. What the umask took is given back afterwards.
    fchmod(socket.as_fd(), Mode::from_bits_truncate(MODE as _))?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), ours: ours.clone() };
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(Bound::Unix(socket.into(), file))
}

/// Removes the socket of a process that is gone; anything else at that path stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !meta.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is not a socket",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers on it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path) -> Result<Bound, BindError> {
        Bound::new(&AdminListen::Unix(path.to_owned()), &Arc::new(AtomicBool::new(true)))
    }

    #[test]
    fn a_unix_socket_is_for_owner_and_group_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let bound = at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(bound.url(), format!("unix:{}", path.display()));
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        // Dropping a std listener leaves its file, as a crash would.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = at(&path).unwrap();
        let error = at(&path).unwrap_err();
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
        drop(live);

        fs::write(&path, "mine").unwrap();
        assert_eq!(at(&path).unwrap_err().error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
