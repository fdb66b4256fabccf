//! `state_dir/sticky.key`: what signs sticky cookies where the configuration has no secret of its own.
//!
//! Made once, for nobody's eyes but ours, and kept: sessions outlive a restart. Proxies that are to know
//! each other's sessions need a secret in the file, or a copy of this.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::config::types::Config;

/// In bytes, before they are written in hexadecimal.
const BYTES: usize = 32;

/// The key, if a service needs it; made if there is none yet.
///
/// # Errors
/// The file cannot be read or written, or is not what was written.
pub fn of(config: &Config) -> Result<Option<Arc<[u8]>>, String> {
    let needed = |sticky: &crate::config::types::Sticky| sticky.secret.is_none();
    if !config.services.values().any(|service| service.sticky.as_ref().is_some_and(needed)) {
        return Ok(None);
    }
    let path = config.runtime.state_dir.join("sticky.key");
    match read_or_make(&path) {
        Ok(key) => Ok(Some(key)),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn read_or_make(path: &Path) -> io::Result<Arc<[u8]>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
        read => read?,
    };
    let key = text.trim_ascii();
    let whole = key.len() == BYTES * 2 && key.iter().all(u8::is_ascii_hexdigit);
    match whole {
        true => Ok(key.into()),
        false => Err(io::Error::other("not a key; remove it, and sessions begin anew")),
    }
}

fn make(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = [0; BYTES];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no random numbers"))?;
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    // Whole or not at all, as with all that is kept.
    let next = path.with_extension("key.new");
    // One that a crash left may be readable by others.
    let _ = fs::remove_file(&next);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_made_once_and_for_us_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sticky.key");
        let key = read_or_make(&path).expect("made");
        assert_eq!(read_or_make(&path).expect("read"), key);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().expect("a folder");
        assert_ne!(read_or_make(&other.path().join("sticky.key")).expect("made"), key);
    }

    #[test]
    fn half_a_key_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sticky.key");
        fs::write(&path, "0123456789abcdef").expect("written");
        assert!(read_or_make(&path).is_err());
    }
}
