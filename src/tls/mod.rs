//! TLS towards clients: certificates by name, sessions that outlive a reload.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::types as config;

/// Builds the TLS settings of listeners. One value per process, in the control plane, kept
/// over reloads: it holds the ticket keys and session caches by listener name, and gives the
/// same `Arc` again when neither files nor settings changed.
#[derive(Debug, Default)]
pub struct Loader {}

/// One listener's TLS, ready to serve.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Arc<rustls::ServerConfig>,
    /// In file order.
    pub certificates: Vec<CertificateInfo>,
}

/// What is told about a certificate (metrics, status, warnings).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    pub file: PathBuf,
    /// DNS names it covers, lower case.
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// Why a listener's TLS cannot be built. Each says which file and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: {error}", .file.display())]
    Read { file: PathBuf, error: std::io::Error },
    #[error("{}: {what}", .file.display())]
    Invalid { file: PathBuf, what: String },
}

impl Loader {
    /// Reads the files of a listener and builds its settings; every mistake at once.
    /// `Ok(None)` for a listener without TLS.
    pub fn load(&mut self, listener: &config::Listener) -> Result<Option<Loaded>, Vec<TlsError>> {
        let _ = listener;
        Ok(None)
    }

    /// Forgets the sessions and keys of listeners that are not in `names`.
    pub fn retain(&mut self, names: &[Arc<str>]) {
        let _ = names;
    }
}
