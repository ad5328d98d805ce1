//! The registry's own certificate, which is no node's.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::settings::TlsFiles;
use super::watched::Watched;

/// A certificate that is renewed is used from the next connection on.
pub(super) fn acceptors(files: &TlsFiles) -> Result<Watched<TlsAcceptor>, String> {
    let files = files.clone();
    let paths = vec![files.certificate.clone(), files.key.clone()];
    Watched::open(paths, move || acceptor(&files))
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, String> {
    let unusable = |path: &Path, reason: String| {
        format!("the registry's `{}` cannot be used: {reason}", path.display())
    };
    let read = |path: &Path| std::fs::read(path).map_err(|e| unusable(path, e.to_string()));
    let pem = read(&files.certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|e| unusable(&files.certificate, e.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(&files.certificate, "there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|e| unusable(&files.key, e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| unusable(&files.certificate, e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
