//! Whose certificates a load believes, and the TLS client for it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{LoadError, Protocol};

/// Where the system keeps the certificates it believes, by distribution; `SSL_CERT_FILE` comes first.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The system's.
    System,
    /// Those of a PEM file.
    File(PathBuf),
    /// Any at all.
    Anyone,
}

/// A client configuration with ALPN for the protocol.
pub(super) fn client(trust: &Trust, protocol: Protocol) -> Result<ClientConfig, LoadError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| LoadError::Plan(error.to_string()))?;
    let mut config = match trust {
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth(),
        Trust::System => builder.with_root_certificates(roots(system()?)?).with_no_client_auth(),
        Trust::File(file) => {
            builder.with_root_certificates(roots(file.clone())?).with_no_client_auth()
        }
    };
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}

fn system() -> Result<PathBuf, LoadError> {
    std::env::var_os("SSL_CERT_FILE")
        .map(PathBuf::from)
        .into_iter()
        .chain(BUNDLES.map(PathBuf::from))
        .find(|file| file.is_file())
        .ok_or_else(|| LoadError::Plan("no certificates of the system found; name a file".into()))
}

fn roots(file: PathBuf) -> Result<RootCertStore, LoadError> {
    let bad = |error: String| LoadError::Certificates { file: file.display().to_string(), error };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&file).map_err(|e| bad(e.to_string()))? {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        // A bundle may hold old ones that are not understood; the others still count.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() { Err(bad("no certificate in it".into())) } else { Ok(roots) }
}

/// Believes any certificate, but still wants the handshake signed with its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
