//! TLS towards clients: certificate and key from files, read again when the configuration is.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::endpoint;
use super::settings::TlsSettings;

/// What clients that want TLS get.
#[derive(Clone)]
pub(crate) struct ClientTls {
    pub(crate) acceptor: TlsAcceptor,
    /// Clients without TLS are refused.
    pub(crate) required: bool,
    /// The hash of our certificate, for SCRAM's channel binding.
    pub(crate) hash: Option<Arc<[u8]>>,
}

impl ClientTls {
    /// Reads the files. Errors say which can't be used, and why.
    pub(crate) fn read(settings: &TlsSettings) -> Result<Self, String> {
        let chain = certificates(&settings.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&settings.key)
            .map_err(|error| unusable(&settings.key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default protocol versions");
        let builder = match &settings.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(|error| unusable(file, &error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| unusable(file, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let hash = chain.first().and_then(|own| endpoint::hash(own)).map(Into::into);
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&settings.certificate, &error))?;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            required: settings.required,
            hash,
        })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(file, &error))?;
    if certificates.is_empty() {
        return Err(unusable(file, &"there is no certificate in it"));
    }
    Ok(certificates)
}

fn unusable(file: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", file.display())
}
