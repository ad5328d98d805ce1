//! TLS configurations of one identity, exchangeable while connections are being made.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::authority::{certificate_validity, first_certificate, roots_digest};
use super::expired::PerhapsExpired;
use super::{Credentials, Peer};

const HTTP2: &[u8] = b"h2";

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text cannot be read.
    #[error("the {part} is not valid PEM: {reason}")]
    Pem {
        /// Certificate, private key or root certificate.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate says nothing that this cluster's authority would.
    #[error("the certificate names no cluster, role and node")]
    Identity,
    /// Certificate and key do not fit each other, or cannot be used.
    #[error("certificate and private key cannot be used together")]
    Unusable(#[source] rustls::Error),
    /// The root certificate cannot be used.
    #[error("the cluster's root certificate cannot be used")]
    Root(#[source] rustls::Error),
}

/// The TLS side of an identity. Shared by server and clients; [`Tls::reload`] brings a renewed certificate in without
/// touching connections that stand.
#[derive(Debug)]
pub struct Tls {
    configs: watch::Sender<Configs>,
    /// The digest of the roots that the cluster trusts now, as a controller said last; empty until one did.
    wanted: watch::Sender<String>,
}

#[derive(Debug, Clone)]
struct Configs {
    cluster_id: Option<String>,
    /// The root that the certificate stems from, PEM; empty without a certificate.
    root_pem: String,
    /// The digest of the roots that are trusted here; empty without a certificate.
    roots: String,
    validity: Option<(SystemTime, SystemTime)>,
    /// Judges clients; `None` without a certificate.
    clients: Option<Arc<PerhapsExpired>>,
    server: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// For a node, or an operator with a bundle.
    pub fn new(credentials: &Credentials) -> Result<Arc<Self>, TlsError> {
        Ok(Self::of(Configs::new(credentials)?))
    }

    fn of(configs: Configs) -> Arc<Self> {
        Arc::new(Self { configs: watch::Sender::new(configs), wanted: watch::Sender::default() })
    }

    /// For a machine that has no certificate yet: it can only connect, to servers of this root.
    pub fn without_certificate(ca_pem: &str) -> Result<Arc<Self>, TlsError> {
        let client = client_builder().with_root_certificates(root_store(ca_pem)?);
        Ok(Self::only_client(client.with_no_client_auth()))
    }

    /// For the one call that fetches the root certificate, which is then compared with a digest. Trusts anybody.
    pub(super) fn trusting_anybody() -> Arc<Self> {
        let trusting = Arc::new(TrustAnybody(provider()));
        let client = client_builder().dangerous().with_custom_certificate_verifier(trusting);
        Self::only_client(client.with_no_client_auth())
    }

    fn only_client(client: ClientConfig) -> Arc<Self> {
        let client = Arc::new(finish_client(client));
        Self::of(Configs {
            cluster_id: None,
            root_pem: String::new(),
            roots: String::new(),
            validity: None,
            clients: None,
            server: None,
            client,
        })
    }

    /// Uses a renewed certificate for every handshake from now on.
    pub fn reload(&self, credentials: &Credentials) -> Result<(), TlsError> {
        self.configs.send_replace(Configs::new(credentials)?);
        Ok(())
    }

    fn configs(&self) -> Configs {
        self.configs.borrow().clone()
    }

    /// The root that the certificate stems from, PEM.
    pub fn root_pem(&self) -> String {
        self.configs.borrow().root_pem.clone()
    }

    /// The digest of the root certificates that are trusted here.
    pub fn roots(&self) -> String {
        self.configs.borrow().roots.clone()
    }

    /// Waits until other roots than those with this digest are trusted here.
    pub async fn roots_changed(&self, from: &str) {
        // The sender lives as long as this does.
        let _ = self.configs.subscribe().wait_for(|configs| configs.roots != from).await;
    }

    /// Notes the digest of the roots that the cluster trusts now. Where it is another than that of [`Tls::roots`],
    /// [`super::keep_valid`] gets a new certificate and the roots at once. An empty text says nothing.
    pub fn want_roots(&self, digest: &str) {
        if !digest.is_empty() {
            self.wanted.send_if_modified(|wanted| {
                let other = *wanted != digest;
                digest.clone_into(wanted);
                other
            });
        }
    }

    /// Whether the cluster trusts other roots now than this host.
    pub(super) fn lacks_roots(&self) -> bool {
        let wanted = self.wanted.borrow();
        !wanted.is_empty() && *wanted != self.configs.borrow().roots
    }

    /// Tells each time the cluster is said to trust other roots than before.
    pub(super) fn follow_wanted(&self) -> watch::Receiver<String> {
        self.wanted.subscribe()
    }

    /// From when until when the certificate is valid; `None` without one.
    pub fn validity(&self) -> Option<(SystemTime, SystemTime)> {
        self.configs().validity
    }

    /// Whether a client's certificate, with what came with it, stems from a root that is trusted here now.
    pub(super) fn trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let clients = self.configs.borrow().clients.clone();
        clients.zip(chain.split_first()).is_some_and(|(clients, (certificate, intermediates))| {
            clients.verify_client_cert(certificate, intermediates, UnixTime::now()).is_ok()
        })
    }

    pub(super) fn cluster_id(&self) -> Option<String> {
        self.configs().cluster_id
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let server = self.configs().server;
        TlsAcceptor::from(server.expect("only an identity with a certificate is given a listener"))
    }

    pub(super) fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.configs().client)
    }
}

impl Configs {
    fn new(credentials: &Credentials) -> Result<Self, TlsError> {
        let chain = read_certificates("certificate", &credentials.certificate_pem)?;
        let peer = chain.first().and_then(Peer::of_certificate).ok_or(TlsError::Identity)?;
        let key = || read_key(credentials.key_pem.reveal());
        CertifiedKey::from_der(chain.clone(), key()?, &provider()).map_err(TlsError::Unusable)?;
        let root = root_store(&credentials.ca_pem)?;
        let client = client_builder()
            .with_root_certificates(Arc::clone(&root))
            .with_client_auth_cert(chain.clone(), key()?)
            .map_err(TlsError::Unusable)?;
        let clients = Arc::new(PerhapsExpired::of(root, provider())?);
        let verifier: Arc<dyn ClientCertVerifier> = Arc::clone(&clients) as _;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("ring knows TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key()?)
            .map_err(TlsError::Unusable)?;
        server.alpn_protocols = vec![HTTP2.to_vec()];
        // A resumed session would carry a certificate that is no longer checked.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            cluster_id: Some(peer.cluster_id),
            root_pem: first_certificate(&credentials.ca_pem),
            roots: roots_digest(&credentials.ca_pem).unwrap_or_default(),
            validity: certificate_validity(&credentials.certificate_pem).ok(),
            clients: Some(clients),
            server: Some(Arc::new(server)),
            client: Arc::new(finish_client(client)),
        })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn client_builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("ring knows TLS 1.3")
}

fn finish_client(mut client: ClientConfig) -> ClientConfig {
    client.alpn_protocols = vec![HTTP2.to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    client
}

fn root_store(ca_pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in read_certificates("root certificate", ca_pem)? {
        roots.add(root).map_err(TlsError::Root)?;
    }
    Ok(Arc::new(roots))
}

/// At least one.
fn read_certificates(
    part: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason| TlsError::Pem { part, reason };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err(refuse("it is empty".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(refuse(error.to_string())),
    }
}

fn read_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| TlsError::Pem { part: "private key", reason: error.to_string() })
}

/// Whether certificate and key belong to each other.
pub(super) fn fit(certificate_pem: &str, key_pem: &str) -> Result<bool, TlsError> {
    let chain = read_certificates("certificate", certificate_pem)?;
    Ok(CertifiedKey::from_der(chain, read_key(key_pem)?, &provider()).is_ok())
}

/// Checks that the server has the key of the certificate it shows, and nothing of that certificate.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
