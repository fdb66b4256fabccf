//! All that a configuration needs of certificates and keys, read at once: before rights are dropped at the
//! start, and before anything is changed by a reload.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::types::Config;
use crate::tls::origin::OriginClient;
use crate::tls::{self, CertificateInfo, Loader};

use super::build::TlsConfigs;

/// How backends are spoken to over TLS, by service.
pub type Origins = BTreeMap<Arc<str>, Arc<OriginClient>>;

/// See the module.
#[derive(Default)]
pub struct LoadedTls {
    pub listeners: TlsConfigs,
    pub admin: Option<Arc<rustls::ServerConfig>>,
    /// Of the listeners and the admin API.
    pub certificates: Vec<CertificateInfo>,
    pub origins: Origins,
}

impl LoadedTls {
    /// # Errors
    /// Every listener and service whose files cannot be used, and why.
    pub fn load(loader: &mut Loader, config: &Config) -> Result<Self, Vec<String>> {
        let mut loaded = Self::default();
        let mut problems = Vec::new();
        for listener in &config.listeners {
            match loader.load(listener) {
                Ok(Some(tls)) => {
                    loaded.certificates.extend(tls.certificates.iter().cloned());
                    loaded.listeners.insert(listener.name.clone(), tls);
                }
                Ok(None) => {}
                Err(errors) => {
                    let name = &listener.name;
                    problems.extend(errors.iter().map(|e| format!("listener \"{name}\": {e}")));
                }
            }
        }
        match config.admin.tls.as_ref().map(tls::admin::server).transpose() {
            Ok(admin) => {
                let (server, certificate) = admin.unzip();
                loaded.admin = server;
                loaded.certificates.extend(certificate);
            }
            Err(error) => problems.push(format!("admin.tls: {error}")),
        }
        for (name, service) in &config.services {
            match OriginClient::new(&service.transport) {
                Ok(client) => loaded.origins.extend(client.map(|client| (name.clone(), client))),
                Err(error) => problems.push(format!("service \"{name}\": transport.tls: {error}")),
            }
        }
        if problems.is_empty() { Ok(loaded) } else { Err(problems) }
    }
}
