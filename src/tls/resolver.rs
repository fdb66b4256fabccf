//! Which certificate a client gets: by the name it asks for (SNI), exact names before wildcards.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::types::UnknownSni;

use super::certificate::Certificate;

/// The certificates of one listener by name.
#[derive(Debug)]
pub(super) struct Resolver {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// `*.example.com` under `example.com`; it stands for one label (RFC 9525 §6.3).
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
    unknown: UnknownSni,
}

impl Resolver {
    /// Of two certificates with the same name the first in the file is used.
    pub(super) fn new(certificates: &[Certificate], unknown: UnknownSni) -> Self {
        let mut resolver = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            first: certificates.first().map(|certificate| Arc::clone(&certificate.key)),
            unknown,
        };
        for certificate in certificates {
            for name in &certificate.info.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut resolver.wildcard, parent),
                    None => (&mut resolver.exact, name.as_str()),
                };
                map.entry(name.into()).or_insert_with(|| Arc::clone(&certificate.key));
            }
        }
        resolver
    }

    fn by_name(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = name else { return self.first.clone() };
        // rustls gives names as they were sent.
        let name = name.to_ascii_lowercase();
        let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        match self.exact.get(name.as_str()).or_else(parent) {
            Some(key) => Some(Arc::clone(key)),
            None if self.unknown == UnknownSni::Default => self.first.clone(),
            None => None,
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.by_name(hello.server_name())
    }
}
