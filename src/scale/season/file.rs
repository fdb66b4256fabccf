//! The windows of a season on disk: a JSON line each. Rotation and writing are `JournalFile`'s.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::Path;

use super::{KEPT, Window};

/// The line of a window.
pub fn line(window: &Window) -> String {
    serde_json::to_string(window).expect("a window is two numbers")
}

/// The newest windows of these files, which are given oldest first. Files that are not there and lines that
/// cannot be read are left out: what is missing is a window that is not known.
///
/// # Errors
/// A file that is there cannot be read.
pub fn read_back<'p>(files: impl Iterator<Item = &'p Path>) -> io::Result<Vec<Window>> {
    let mut windows = VecDeque::new();
    for path in files {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).split(b'\n') {
            if let Ok(window) = serde_json::from_slice(&line?) {
                if windows.len() == KEPT as usize {
                    windows.pop_front();
                }
                windows.push_back(window);
            }
        }
    }
    Ok(windows.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::{JournalFile, Sink, Wall};

    #[test]
    fn windows_come_back_without_what_is_torn() {
        let folder = tempfile::tempdir().expect("a folder");
        let (missing, path) = (folder.path().join("none"), folder.path().join("app.jsonl"));
        let windows = [1, 2].map(|n| Window { from: Wall(n * 300_000), rate: 0.1 * n as f64 });
        let mut file = JournalFile::open(path.clone(), 1 << 20, 2).expect("opened");
        file.write(&line(&windows[0])).expect("written");
        file.write("{\"from\":\"1970-01-").expect("written");
        file.write(&line(&windows[1])).expect("written");
        let found = read_back([missing.as_path(), &path].into_iter()).expect("read");
        assert_eq!(found, windows);
    }
}
