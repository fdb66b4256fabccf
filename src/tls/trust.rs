//! Whose certificates we believe as a TLS client, and the client configuration for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

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

/// Who we say we are: a certificate with its chain and its key, two PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Why there is no client configuration.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("no certificates of the system found; name a file")]
    NoSystem,
    #[error("{file}: {error}")]
    File { file: String, error: String },
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// A client configuration that believes `trust` and speaks the protocols of `alpn`, the first rather.
///
/// # Errors
/// Files that cannot be read or hold nothing of use.
pub fn client(
    trust: &Trust,
    identity: Option<&Identity>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        }
        Trust::System => builder.with_root_certificates(roots(&system()?)?),
        Trust::File(file) => builder.with_root_certificates(roots(file)?),
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { cert, key }) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, e))?;
            builder.with_client_auth_cert(certificates(cert)?, private)?
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn system() -> Result<PathBuf, TrustError> {
    std::env::var_os("SSL_CERT_FILE")
        .map(PathBuf::from)
        .into_iter()
        .chain(BUNDLES.map(PathBuf::from))
        .find(|file| file.is_file())
        .ok_or(TrustError::NoSystem)
}

fn roots(file: &Path) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        // A bundle may hold old ones that are not understood; the others still count.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() { Err(bad(file, "no certificate in it")) } else { Ok(roots) }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| bad(file, error))?;
    certificates.map(|one| one.map_err(|error| bad(file, error))).collect()
}

fn bad(file: &Path, error: impl std::fmt::Display) -> TrustError {
    TrustError::File { file: file.display().to_string(), error: error.to_string() }
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
