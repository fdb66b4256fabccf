//! The writer thread of an access log: the only one that waits for a disk or a pipe.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender};

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Message {
    Lines {
        bytes: Vec<u8>,
        lines: u64,
    },
    Reopen,
    /// Answered once everything before it is written.
    Drain(SyncSender<()>),
}

/// Where lines go.
pub(super) enum Sink {
    File { path: PathBuf, file: File },
    Stream(Box<dyn Write + Send>),
}

impl Sink {
    /// `None` is standard output.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        Ok(match path {
            None => Self::Stream(Box::new(io::stdout())),
            Some(path) => Self::File { path: path.to_owned(), file: append(path)? },
        })
    }

    /// Writes until every sender is gone.
    pub(super) fn run(mut self, from: &Receiver<Message>, lost: &AtomicU64) {
        for message in from {
            match message {
                Message::Lines { bytes, lines } => {
                    if let Err(error) = self.write(&bytes) {
                        lost.fetch_add(lines, Relaxed);
                        tracing::debug!(%error, lines, "access log: lines lost");
                    }
                }
                Message::Reopen => self.reopen(),
                // The one who asked may have given up.
                Message::Drain(done) => drop(done.try_send(())),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.write_all(bytes),
            Self::Stream(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Keeps the old file if the new one cannot be opened: lines in a moved file beat no lines.
    fn reopen(&mut self) {
        let Self::File { path, file } = self else { return };
        match append(path) {
            Ok(new) => *file = new,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "access log cannot be reopened");
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
