//! One certificate from its files: read, checked against its key, and told about.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::config::types as config;

use super::validity::validity;
use super::{CertificateInfo, TlsError};

/// The bytes of both files, which decide whether anything changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate that can be served.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) info: CertificateInfo,
}

impl Files {
    pub(super) fn read(files: &config::Certificate) -> Result<Self, TlsError> {
        let read = |file: &Path| {
            std::fs::read(file).map_err(|error| TlsError::Read { file: file.to_owned(), error })
        };
        Ok(Self { chain: read(&files.cert)?, key: read(&files.key)? })
    }
}

impl Certificate {
    pub(super) fn parse(
        files: &config::Certificate,
        bytes: &Files,
        provider: &rustls::crypto::CryptoProvider,
    ) -> Result<Self, TlsError> {
        let in_cert = |what: String| TlsError::Invalid { file: files.cert.clone(), what };
        let in_key = |what: String| TlsError::Invalid { file: files.key.clone(), what };

        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes.chain)
            .collect::<Result<_, _>>()
            .map_err(|error| in_cert(format!("not PEM: {error}")))?;
        let first = chain.first().ok_or_else(|| {
            in_cert("no certificate in it; it should begin with -----BEGIN CERTIFICATE-----".into())
        })?;
        let end_entity = webpki::EndEntityCert::try_from(first)
            .map_err(|error| in_cert(format!("the first certificate cannot be read: {error}")))?;
        let names: Vec<String> =
            end_entity.valid_dns_names().map(str::to_ascii_lowercase).collect();
        let (not_before, not_after) =
            validity(first).ok_or_else(|| in_cert("its dates cannot be read".into()))?;

        let key = PrivateKeyDer::from_pem_slice(&bytes.key).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                in_key("no private key in it (encrypted ones are not read)".into())
            }
            error => in_key(format!("not PEM: {error}")),
        })?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| in_key(format!("the private key cannot be used: {error}")))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                in_key(format!("the key does not belong to {}", files.cert.display()))
            }
            error => in_cert(error.to_string()),
        })?;
        let info = CertificateInfo { file: files.cert.clone(), names, not_before, not_after };
        Ok(Self { key: Arc::new(key), info })
    }
}
