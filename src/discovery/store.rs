//! `state_dir/backends.toml`: what was added over the admin API with `?persist=true`.
//!
//! Written whole to a second file that then takes the first one's name, both flushed to the disk:
//! a crash leaves the old or the new, never half of either. A file that cannot be read is set
//! aside under another name and told; nothing of it is used.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Found;
use super::file::Row;

/// By service and id.
pub type Kept = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Found>>;

/// The file.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
struct Text {
    #[serde(default)]
    service: BTreeMap<String, Service>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    backend: Vec<Row>,
}

impl Store {
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("backends.toml") }
    }

    /// What is kept; nothing if there is no file.
    ///
    /// # Errors
    /// The file is not what was written; where it is now and what is wrong with it.
    pub fn read(&self) -> Result<Kept, String> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::new()),
            read => read.map_err(|error| error.to_string()).and_then(|text| {
                toml::from_str::<Text>(&text).map_err(|error| {
                    let line = error.span().and_then(|span| text.get(..span.start));
                    let line = line.map_or(0, |before| before.matches('\n').count() + 1);
                    format!("line {line}: {}", error.message())
                })
            }),
        };
        let text = text.map_err(|why| {
            let aside = self.path.with_extension("toml.bad");
            let kept = match fs::rename(&self.path, &aside) {
                Ok(()) => format!("it is kept as {}", aside.display()),
                Err(error) => format!("it cannot be set aside: {error}"),
            };
            format!(
                "{}: {why}; backends added over the API are not restored, {kept}",
                self.path.display()
            )
        })?;
        Ok(text.into())
    }

    /// The same text as in the file, for another process.
    ///
    /// # Errors
    /// It cannot be written as TOML.
    pub fn to_text(kept: &Kept) -> Result<String, String> {
        toml::to_string(&Text::from(kept)).map_err(|error| error.to_string())
    }

    /// # Errors
    /// It is not what [`Store::to_text`] makes.
    pub fn of_text(text: &str) -> Result<Kept, String> {
        toml::from_str::<Text>(text).map(Kept::from).map_err(|error| error.to_string())
    }

    /// Replaces what is kept. Blocks until it is on the disk.
    ///
    /// # Errors
    /// The file system's; then the file is as it was.
    pub fn write(&self, kept: &Kept) -> io::Result<()> {
        let text = Self::to_text(kept).map_err(io::Error::other)?;
        let next = self.path.with_extension("toml.new");
        let mut file = File::create(&next)?;
        file.write_all(b"# Backends added over the admin API. Written by tidegate.\n")?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl From<&Kept> for Text {
    fn from(kept: &Kept) -> Self {
        let some = kept.iter().filter(|(_, backends)| !backends.is_empty());
        let service = some.map(|(name, backends)| {
            (name.to_string(), Service { backend: backends.values().map(Row::from).collect() })
        });
        Self { service: service.collect() }
    }
}

impl From<Text> for Kept {
    fn from(text: Text) -> Self {
        let of = |service: Service| {
            service.backend.into_iter().map(Found::from).map(|f| (f.id.clone(), f)).collect()
        };
        text.service.into_iter().map(|(name, service)| (name.into(), of(service))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: &str) -> Kept {
        let found =
            Found { id: id.into(), zone: Some("z".into()), ..Found::at(([10, 0, 0, 1], 1).into()) };
        Kept::from([("app one".into(), BTreeMap::from([(found.id.clone(), found)]))])
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path());
        assert_eq!(store.read(), Ok(Kept::new()));
        for kept in [one("a"), one("b"), Kept::new()] {
            store.write(&kept).expect("written");
            assert_eq!(store.read(), Ok(kept));
        }
    }

    #[test]
    fn a_corrupt_file_is_told_and_set_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path());
        store.write(&one("a")).expect("written");
        let path = folder.path().join("backends.toml");
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, &text[..text.len() - 9]).expect("cut");
        let error = store.read().expect_err("it is cut");
        assert!(error.contains("line ") && error.contains("backends.toml.bad"), "{error}");
        assert_eq!(store.read(), Ok(Kept::new()));
        assert!(folder.path().join("backends.toml.bad").exists());
    }
}
