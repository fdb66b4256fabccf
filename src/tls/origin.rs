//! TLS towards the backends of a service: made in the control plane when a configuration is taken into
//! use, shared by the workers and the health checks.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use crate::config::types::{OriginTls, Protocol, Transport};

use super::trust::{self, Identity, Trust, TrustError};

/// How a service's backends are spoken to over TLS.
#[derive(Debug)]
pub struct OriginClient {
    /// With the protocols of `transport.protocol`, by ALPN.
    config: Arc<ClientConfig>,
    /// HTTP/1.1 only: for upgrades and checks.
    http1: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl OriginClient {
    /// `None`: the service's backends are spoken to without TLS.
    ///
    /// # Errors
    /// Files that cannot be read or hold nothing of use.
    pub fn new(transport: &Transport) -> Result<Option<Arc<Self>>, TrustError> {
        let Some(tls) = &transport.tls else { return Ok(None) };
        let alpn: &[&[u8]] = match transport.protocol {
            Protocol::H2 | Protocol::H2c => &[b"h2"],
            Protocol::Auto => &[b"h2", b"http/1.1"],
            Protocol::Http1 => &[b"http/1.1"],
        };
        let trust = match (&tls.ca, tls.verify) {
            (_, false) => Trust::Anyone,
            (Some(file), true) => Trust::File(file.clone()),
            (None, true) => Trust::System,
        };
        let OriginTls { cert, key, .. } = tls;
        let identity = cert.clone().zip(key.clone()).map(|(cert, key)| Identity { cert, key });
        let config = trust::client(&trust, identity.as_ref(), alpn)?;
        let mut http1 = config.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server_name = tls.server_name.clone();
        Ok(Some(Arc::new(Self { config: Arc::new(config), http1: Arc::new(http1), server_name })))
    }

    /// The settings, and the name that a backend has to prove. `http1`: nothing else may be agreed on.
    /// `None`: its host is no name for a certificate.
    pub fn of(
        &self,
        authority: &http::HeaderValue,
        http1: bool,
    ) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        let config = if http1 { &self.http1 } else { &self.config };
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => {
                let authority: http::uri::Authority = authority.to_str().ok()?.parse().ok()?;
                let host = authority.host().trim_start_matches('[').trim_end_matches(']');
                ServerName::try_from(host.to_owned()).ok()?
            }
        };
        Some((config.clone(), name))
    }
}
