//! TLS: towards clients certificates by name and sessions that outlive a reload; towards backends
//! whom we believe ([`trust`], [`origin`]).
//!
//! Everything here runs in the control plane; workers get a finished `rustls::ServerConfig`.
//! Ticket keys and session caches belong to a listener's name: they are shared by its workers
//! and kept over reloads, and a session of one listener never opens another.

pub mod admin;
mod certificate;
pub mod clients;
mod der;
pub mod origin;
mod quic;
mod resolver;
#[cfg(test)]
mod tests;
pub mod tickets;
pub mod trust;
mod validity;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

use crate::config::types as config;

use certificate::{Certificate, Files};
use resolver::Resolver;
use tickets::{KeyBytes, Tickets};

/// Sessions kept per listener for clients that use no tickets; about 1 KiB each.
const CACHED_SESSIONS: usize = 8192;

/// Builds the TLS settings of listeners. One value per process, in the control plane, kept
/// over reloads: it holds the ticket keys and session caches by listener name, and gives the
/// same `Arc` again when neither files nor settings changed.
#[derive(Debug, Default)]
pub struct Loader {
    listeners: HashMap<Arc<str>, Kept>,
    /// Ticket keys of the process before this one, for listeners that were not loaded yet.
    handed: HashMap<String, Vec<KeyBytes>>,
}

/// What is kept of a listener.
#[derive(Debug)]
struct Kept {
    /// Made when first needed; rotates its keys by itself.
    ticketer: Option<Arc<Tickets>>,
    sessions: Arc<dyn StoresServerSessions>,
    last: Option<(Settings, Loaded)>,
}

/// All that a `ServerConfig` is made from.
#[derive(Debug, PartialEq)]
struct Settings {
    tls: config::ListenerTls,
    http1: bool,
    http2: bool,
    quic: Option<quic::Settings>,
    files: Vec<Files>,
    /// The bytes of `client_ca`.
    client_ca: Vec<u8>,
}

/// One listener's TLS, ready to serve.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Arc<rustls::ServerConfig>,
    /// For HTTP/3, where the listener has that.
    pub quic: Option<Arc<quinn::ServerConfig>>,
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
    #[error("listener \"{listener}\": {what}")]
    Listener { listener: Arc<str>, what: String },
}

impl CertificateInfo {
    /// What an operator should know: it is used all the same. `None` = nothing.
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let file = self.file.display();
        if self.not_after < now {
            Some(format!("{file}: the certificate is expired"))
        } else if self.not_before > now {
            Some(format!("{file}: the certificate is not valid yet"))
        } else if self.names.is_empty() {
            Some(format!("{file}: the certificate names no host; only clients without SNI get it"))
        } else {
            None
        }
    }
}

impl Loader {
    /// Reads the files of a listener and builds its settings; every mistake at once.
    /// `Ok(None)` for a listener without TLS.
    pub fn load(&mut self, listener: &config::Listener) -> Result<Option<Loaded>, Vec<TlsError>> {
        let Some(tls) = &listener.tls else { return Ok(None) };
        let settings = Settings {
            tls: tls.clone(),
            http1: listener.http1,
            http2: listener.http2,
            quic: listener.http3.then(|| quic::Settings::of(listener)),
            files: all(tls.certificates.iter().map(Files::read))?,
            client_ca: clients::read(tls).map_err(|error| vec![error])?,
        };
        let kept = self.listeners.entry(Arc::clone(&listener.name)).or_insert_with(Kept::new);
        if let Some(keys) = self.handed.remove(&*listener.name) {
            let known = Tickets::with(&keys).map_err(|error| {
                let (listener, what) = (Arc::clone(&listener.name), error.to_string());
                vec![TlsError::Listener { listener, what }]
            })?;
            kept.ticketer = Some(Arc::new(known));
        }
        if let Some((last, loaded)) = &kept.last
            && *last == settings
        {
            return Ok(Some(loaded.clone()));
        }
        let loaded = build(&settings, &listener.name, kept)?;
        kept.last = Some((settings, loaded.clone()));
        Ok(Some(loaded))
    }

    /// Goes on with the ticket keys of another process, by listener: what it sealed is opened here.
    pub fn go_on_with(&mut self, keys: HashMap<String, Vec<KeyBytes>>) {
        self.handed = keys;
    }

    /// The ticket keys by listener, for the process that takes over.
    pub fn ticket_keys(&self) -> HashMap<String, Vec<KeyBytes>> {
        let with_keys = self
            .listeners
            .iter()
            .filter_map(|(name, kept)| Some((name.to_string(), kept.ticketer.as_ref()?.keys())));
        with_keys.collect()
    }

    /// Forgets the sessions and keys of listeners that are not in `names`.
    pub fn retain(&mut self, names: &[Arc<str>]) {
        self.listeners.retain(|name, _| names.contains(name));
    }
}

impl Kept {
    fn new() -> Self {
        let sessions = ServerSessionMemoryCache::new(CACHED_SESSIONS);
        Self { ticketer: None, sessions, last: None }
    }
}

fn build(settings: &Settings, name: &Arc<str>, kept: &mut Kept) -> Result<Loaded, Vec<TlsError>> {
    let tls = &settings.tls;
    let in_listener = |error: rustls::Error| TlsError::Listener {
        listener: Arc::clone(name),
        what: error.to_string(),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let files = tls.certificates.iter().zip(&settings.files);
    let certificates =
        all(files.map(|(files, bytes)| Certificate::parse(files, bytes, &provider)))?;

    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        config::TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        config::TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let verifier =
        clients::verifier(tls, &settings.client_ca, &provider).map_err(|error| vec![error])?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| vec![in_listener(error)])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Resolver::new(&certificates, tls.unknown_sni)));
    server.alpn_protocols = [(settings.http2, "h2"), (settings.http1, "http/1.1")]
        .into_iter()
        .filter(|(spoken, _)| *spoken)
        .map(|(_, name)| name.into())
        .collect();
    // Early data can be replayed.
    server.max_early_data_size = 0;
    if tls.session_tickets {
        let ticketer =
            match &kept.ticketer {
                Some(ticketer) => Arc::clone(ticketer),
                None => Arc::new(Tickets::new().map_err(|error| {
                    vec![in_listener(rustls::Error::General(error.to_string()))]
                })?),
            };
        kept.ticketer = Some(Arc::clone(&ticketer));
        server.ticketer = ticketer;
    }
    // For clients without tickets, and for all where tickets are off.
    server.session_storage = Arc::clone(&kept.sessions);
    let certificates = certificates.into_iter().map(|certificate| certificate.info).collect();
    let quic = settings.quic.as_ref().map(|settings| quic::server(settings, &server));
    let quic = quic.transpose().map_err(|what| {
        vec![TlsError::Listener { listener: Arc::clone(name), what: what.to_string() }]
    })?;
    Ok(Loaded { config: Arc::new(server), quic, certificates })
}

/// Every value, or every error.
fn all<T>(results: impl Iterator<Item = Result<T, TlsError>>) -> Result<Vec<T>, Vec<TlsError>> {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}
