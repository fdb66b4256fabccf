//! Messages with descriptors between two processes: a stream socket of which each holds one end.
//!
//! A message is its length, the number of its descriptors, these in batches (SCM_RIGHTS, unix(7)),
//! each with one byte, and its bytes. Blocks; who calls says for how long. What the messages mean is
//! left to `control::handover`.

#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// Descriptors in one go; the kernel takes up to 253.
const BATCH: usize = 64;
/// Bounds of a message: a wrong number must not become an allocation.
const MOST_BYTES: usize = 64 << 20;
const MOST_FDS: usize = 16 * 1024;
/// For the other side to read what is written.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// One end.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// Both ends; the second is for the other process.
    ///
    /// # Errors
    /// The system's.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self::new(ours)?, theirs.into()))
    }

    /// The end that this process was started with.
    ///
    /// # Errors
    /// It is no unix stream socket.
    pub fn of(fd: OwnedFd) -> io::Result<Self> {
        let stream = UnixStream::from(fd);
        stream.peer_addr()?;
        Self::new(stream)
    }

    /// The same end once more, for a third process that wants to know when the other side is gone.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn again(&self) -> io::Result<OwnedFd> {
        Ok(self.stream.try_clone()?.into())
    }

    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_write_timeout(Some(WRITE_LIMIT))?;
        Ok(Self { stream })
    }

    /// # Errors
    /// The other side is gone or does not read.
    pub fn send(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let mut head = [0; 8];
        head[..4].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
        head[4..].copy_from_slice(&(fds.len() as u32).to_be_bytes());
        (&self.stream).write_all(&head)?;
        for batch in fds.chunks(BATCH) {
            let numbers: Vec<RawFd> = batch.iter().map(|fd| fd.as_raw_fd()).collect();
            let (bytes, rights) = ([IoSlice::new(&[0])], [ControlMessage::ScmRights(&numbers)]);
            sendmsg::<UnixAddr>(
                self.stream.as_raw_fd(),
                &bytes,
                &rights,
                MsgFlags::MSG_NOSIGNAL,
                None,
            )?;
        }
        (&self.stream).write_all(bytes)
    }

    /// The next message, once it is there. Descriptors are closed on exec.
    ///
    /// # Errors
    /// The other side is gone (`UnexpectedEof`), says nothing for that long, or nonsense.
    pub fn receive(&self, within: Option<Duration>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        self.stream.set_read_timeout(within)?;
        let mut head = [0; 8];
        (&self.stream).read_exact(&mut head)?;
        let number = |at: usize| {
            u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize
        };
        let (length, count) = (number(0), number(4));
        if length > MOST_BYTES || count > MOST_FDS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a message of tidegate"));
        }
        let mut fds = Vec::new();
        while fds.len() < count {
            fds.extend(self.batch()?);
        }
        let mut bytes = vec![0; length];
        (&self.stream).read_exact(&mut bytes)?;
        Ok((bytes, fds))
    }

    fn batch(&self) -> io::Result<Vec<OwnedFd>> {
        let (mut byte, mut space) = ([0], nix::cmsg_space!([RawFd; BATCH]));
        let mut bytes = [IoSliceMut::new(&mut byte)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<UnixAddr>(self.stream.as_raw_fd(), &mut bytes, Some(&mut space), flags)?;
        let mut fds = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                // SAFETY: the kernel has just made these descriptors in this process, for whoever
                // receives the message; nothing else knows their numbers.
                fds.extend(numbers.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        match fds.is_empty() {
            true if message.bytes == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            true => {
                Err(io::Error::other("descriptors were lost; is the limit of open files near?"))
            }
            false => Ok(fds),
        }
    }

    /// Ends it for both sides: waits on it end too.
    pub fn close(&self) {
        // An error means that it is closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (ours, theirs) = Channel::pair().expect("a pair");
        let theirs = Channel::of(theirs).expect("a socket");
        let files: Vec<_> = (0..BATCH * 2 + 5)
            .map(|at| {
                let mut file = tempfile::tempfile().expect("a file");
                write!(file, "{at}").expect("written");
                OwnedFd::from(file)
            })
            .collect();
        let long = vec![7; 1 << 20];
        let sending = std::thread::spawn(move || {
            ours.send(b"first", &files).expect("sent");
            ours.send(&long, &[]).expect("sent");
        });
        let (bytes, fds) = theirs.receive(None).expect("there");
        assert_eq!((bytes.as_slice(), fds.len()), (&b"first"[..], BATCH * 2 + 5));
        for (at, fd) in fds.into_iter().enumerate() {
            let mut text = [0; 8];
            let file = std::fs::File::from(fd);
            let read = std::os::unix::fs::FileExt::read_at(&file, &mut text, 0).expect("read");
            assert_eq!(&text[..read], at.to_string().as_bytes());
        }
        let (bytes, fds) = theirs.receive(None).expect("there");
        assert_eq!((bytes.len(), fds.len()), (1 << 20, 0));
        sending.join().expect("no panic");
        let gone = theirs.receive(None).expect_err("the other side is gone");
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn silence_and_nonsense_end_the_wait() {
        let (ours, theirs) = Channel::pair().expect("a pair");
        assert!(ours.receive(Some(Duration::from_millis(1))).is_err());
        UnixStream::from(theirs).write_all(&[0xff; 8]).expect("sent");
        let error = ours.receive(None).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(Channel::of(tempfile::tempfile().expect("a file").into()).is_err());
    }
}
