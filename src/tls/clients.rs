//! Certificates of clients: whose are believed, and what backends are told of one.

use std::sync::Arc;

use http::HeaderValue;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::base64;
use crate::config::types::{ClientAuth, ListenerTls};

use super::{TlsError, der};

/// A client's certificate, ready to be sent.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// As RFC 9440 has it: base64 of its DER between colons.
    pub certificate: HeaderValue,
    /// Its subject as RFC 4514 writes names: `CN=a,O=b`.
    pub subject: HeaderValue,
}

impl ClientCertificate {
    /// Of what a client showed; `None` if it cannot be told of in a header.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let text = format!(":{}:", base64::encode(certificate));
        let subject = der::subject(certificate)?;
        Some(Self {
            certificate: HeaderValue::try_from(text).ok()?,
            subject: HeaderValue::try_from(subject).ok()?,
        })
    }
}

/// The bytes of the file that says who is believed; empty without one.
pub(super) fn read(tls: &ListenerTls) -> Result<Vec<u8>, TlsError> {
    match &tls.client_ca {
        None => Ok(Vec::new()),
        Some(file) => {
            std::fs::read(file).map_err(|error| TlsError::Read { file: file.clone(), error })
        }
    }
}

/// Who judges what clients show.
pub(super) fn verifier(
    tls: &ListenerTls,
    client_ca: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(file) = &tls.client_ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let invalid = |what: String| TlsError::Invalid { file: file.clone(), what };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(client_ca) {
        let certificate = certificate.map_err(|error| invalid(format!("not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = match tls.client_auth {
        ClientAuth::Require => builder,
        ClientAuth::Request => builder.allow_unauthenticated(),
    };
    let verifier = builder.build().map_err(|error| invalid(error.to_string()))?;
    Ok(verifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_told_in_the_order_of_rfc_4514() {
        let mut parameters =
            rcgen::CertificateParams::new(vec!["a.test".to_owned()]).expect("good names");
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CountryName, "SE");
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "A, \"B\"+C");
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "Åsa");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let told = ClientCertificate::of(certificate.der()).expect("it can be told of");
        assert_eq!(told.subject, r#"CN=\C3\85sa,O=A\, \"B\"\+C,C=SE"#);
        assert!(told.certificate.to_str().is_ok_and(|text| text.starts_with(":MII")));
    }
}
