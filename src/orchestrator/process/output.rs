//! What a child writes to standard output and error, carried into our log.
//!
//! Children write to a file of their own in the service's folder and not to a pipe. A pipe
//! would end with us, and the next line would kill a child that is meant to be adopted; and a
//! full pipe stops a child when we are slow. The file is opened for appending, and what was
//! read is given back to the disk by punching a hole, so a file that looks large takes no
//! space and no line is lost. Where holes are not supported it is cut to nothing whenever all
//! of it was read; a line written at that very moment is lost. After a crash of tidegate the
//! first data after the hole is where reading goes on.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};

/// Longer lines are logged in pieces of this many bytes.
const MAX_LINE: usize = 8 * 1024;
/// Read at most this much at a time: a child that floods cannot hold us up.
const BATCH: usize = 256 * 1024;
/// What a child is ahead of us by more than this is skipped: the disk is bounded too.
const MAX_BEHIND: u64 = 8 * 1024 * 1024;

/// Reads one child's file.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    path: PathBuf,
    at: u64,
    partial: Vec<u8>,
    last: String,
}

impl Output {
    /// A new file, and the handle that the child gets.
    pub(super) fn create(path: PathBuf) -> io::Result<(Self, File)> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let child = options.open(&path)?;
        Ok((Self::at(path, 0)?, child))
    }

    /// The file of a child that was started by a tidegate before us.
    pub(super) fn reopen(path: PathBuf) -> io::Result<Self> {
        let mut output = Self::at(path, 0)?;
        // ENXIO: no data at all after the hole.
        let end = output.file.metadata()?.len();
        output.at = lseek(&output.file, 0, Whence::SeekData).map_or(end, |at| at as u64);
        Ok(output)
    }

    fn at(path: PathBuf, at: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self { file, path, at, partial: Vec::new(), last: String::new() })
    }

    /// Hands over the complete lines that came since the last call, up to a batch. True if
    /// there is more.
    pub(super) fn read(&mut self, line: &mut dyn FnMut(&str)) -> io::Result<bool> {
        let end = self.file.metadata()?.len();
        if end < self.at {
            self.at = 0; // someone cut it
        }
        if end - self.at > MAX_BEHIND {
            let skipped = end - self.at - BATCH as u64;
            self.at += skipped;
            self.partial.clear();
            line(&format!("({skipped} bytes of output skipped: it comes faster than it is read)"));
        }
        let mut bytes = vec![0; BATCH.min((end - self.at) as usize)];
        let read = self.file.read_at(&mut bytes, self.at)?;
        if read == 0 {
            return Ok(false);
        }
        self.at += read as u64;
        // A hole ends at a block, so after a restart what is read begins with zeros.
        self.partial.extend(bytes[..read].iter().filter(|&&byte| byte != 0));
        self.free(end)?;
        let partial = std::mem::take(&mut self.partial);
        let mut rest = &partial[..];
        while let Some(newline) = memchr::memchr(b'\n', rest) {
            self.emit(&rest[..newline], line);
            rest = &rest[newline + 1..];
        }
        while rest.len() >= MAX_LINE {
            self.emit(&rest[..MAX_LINE], line);
            rest = &rest[MAX_LINE..];
        }
        self.partial = rest.to_vec();
        Ok(self.at < end)
    }

    /// Reads what is left of an ended child, and removes the file.
    pub(super) fn finish(mut self, line: &mut dyn FnMut(&str)) {
        while let Ok(true) = self.read(line) {}
        let partial = std::mem::take(&mut self.partial);
        self.emit(&partial, line);
        let _ = fs::remove_file(&self.path);
    }

    /// The last line that said anything: mostly why a child ended.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    fn emit(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for piece in bytes.chunks(MAX_LINE) {
            let text = printable(piece);
            let text = text.trim_end();
            if !text.is_empty() {
                text.clone_into(&mut self.last);
                line(text);
            }
        }
    }

    fn free(&mut self, end: u64) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if fallocate(&self.file, flags, 0, self.at as i64).is_err() && self.at >= end {
            self.file.set_len(0)?;
            self.at = 0;
        }
        Ok(())
    }
}

/// Removes files of instances that are not known any more.
pub(super) fn remove_strays(folder: &Path, known: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".log"));
        if id.is_some_and(|id| !known(id)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What a child writes may hold control characters that would act on a terminal.
fn printable(bytes: &[u8]) -> String {
    let visible = |c: char| if c.is_control() && c != '\t' { ' ' } else { c };
    String::from_utf8_lossy(bytes).chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(output: &mut Output) -> Vec<String> {
        let mut lines = Vec::new();
        while output.read(&mut |line| lines.push(line.to_owned())).expect("readable") {}
        lines
    }

    #[test]
    fn lines_come_whole_and_harmless() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut output, mut child) = Output::create(folder.path().join("a.log")).expect("new");
        child.write_all(b"one\ntw").expect("written");
        assert_eq!(read(&mut output), ["one"]);
        child.write_all(b"o\n\n\x1b[2Jthree").expect("written");
        assert_eq!(read(&mut output), ["two"]);
        let mut rest = Vec::new();
        output.finish(&mut |line| rest.push(line.to_owned()));
        assert_eq!(rest, [" [2Jthree"]);
        assert!(!folder.path().join("a.log").exists());
    }

    #[test]
    fn what_was_read_is_not_read_again_by_the_next_tidegate() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.log");
        let (mut output, mut child) = Output::create(path.clone()).expect("new");
        child.write_all(b"old\n").expect("written");
        assert_eq!(read(&mut output), ["old"]);
        drop(output);
        child.write_all(b"new\n").expect("written");
        let mut output = Output::reopen(path).expect("there");
        assert_eq!(read(&mut output), ["new"]);
        assert_eq!(output.last(), "new");
    }

    #[test]
    fn neither_a_line_nor_the_file_grows_without_bound() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let (mut output, mut child) = Output::create(folder.path().join("a.log")).expect("new");
        child.write_all(&vec![b'x'; 3 * MAX_LINE]).expect("written");
        assert!(read(&mut output).iter().all(|line| line.len() <= MAX_LINE));
        for _ in 0..10 {
            child.write_all(&vec![b'\n'; 1024 * 1024]).expect("written");
        }
        let lines = read(&mut output);
        assert_eq!(lines.len(), 1, "what is too far ahead is skipped and said: {lines:?}");
        assert!(lines[0].contains("skipped"));
        let taken = output.file.metadata().expect("there").blocks() * 512;
        assert!(taken < 1024 * 1024, "{taken} bytes are still on the disk");
    }
}
