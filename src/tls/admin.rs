//! TLS of the admin API: one certificate, without client certificates.

use std::sync::Arc;

use crate::config::types as config;

use super::certificate::{Certificate, Files};
use super::resolver::Resolver;
use super::{CertificateInfo, TlsError};

/// Reads the files and builds the settings.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn server(
    files: &config::Certificate,
) -> Result<(Arc<rustls::ServerConfig>, CertificateInfo), TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = Certificate::parse(files, &Files::read(files)?, &provider)?;
    // Whatever name is asked for: the API has its own list of hosts.
    let resolver = Resolver::new(std::slice::from_ref(&certificate), config::UnknownSni::Default);
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| TlsError::Invalid { file: files.cert.clone(), what: error.to_string() })?;
    let mut server = builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(server), certificate.info))
}
