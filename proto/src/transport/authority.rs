//! The cluster's certificate authority: makes its root, signs what nodes ask for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::{AGENT_NAME, CONTROLLER_NAME, ClientRole, PeerRole, node_name};
use crate::id::NodeId;
use crate::object::{Cluster, Role, Secret};

const DAY: Duration = Duration::from_hours(24);
const ROOT_LIFE: Duration = DAY.saturating_mul(365 * 20);
/// How long nodes' and persons' certificates are valid when nobody says otherwise.
pub const CERTIFICATE_LIFE: Duration = DAY.saturating_mul(90);
/// Certificates are valid a little into the past, for hosts whose clock is behind; short ones a tenth of their life.
const BACKDATE: Duration = Duration::from_hours(1);

/// Why the authority could not make or read something.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A certificate could not be read.
    #[error("the certificate cannot be read: {reason}")]
    Certificate {
        /// What is wrong with it.
        reason: String,
    },
    /// The root key could not be read.
    #[error("the private key of the cluster's root certificate cannot be read")]
    Key(#[source] rcgen::Error),
    /// A signing request could not be read, or its signature is wrong.
    #[error("the certificate signing request is not valid")]
    Request(#[source] rcgen::Error),
    /// Signing failed.
    #[error("could not sign a certificate")]
    Sign(#[source] rcgen::Error),
    /// A private key could not be made.
    #[error("could not make a private key")]
    MakeKey(#[source] rcgen::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// A PEM bundle lacks a part.
    #[error("the bundle holds no {part}")]
    Bundle {
        /// What is missing.
        part: &'static str,
    },
}

/// A certificate, its key and the roots that its holder trusts, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The certificate; behind it the intermediate by which it stems from a former root, too.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: Secret,
    /// The cluster's root certificates, the one that the certificate stems from first.
    pub ca_pem: String,
}

impl Credentials {
    /// One text with certificate, key and roots, as `swarm-controller admin-bundle` writes it.
    pub fn to_bundle(&self) -> Secret {
        let parts = [&self.certificate_pem, self.key_pem.reveal(), &self.ca_pem];
        Secret::new(parts.map(|part| format!("{}\n", part.trim_end())).concat())
    }

    /// Reads such a text: the first certificate, the key, all further certificates.
    pub fn from_bundle(bundle: &str) -> Result<Self, AuthorityError> {
        let certificates = blocks(bundle, |label| label == "CERTIFICATE");
        let keys = blocks(bundle, |label| label.ends_with("PRIVATE KEY"));
        let missing = |part| AuthorityError::Bundle { part };
        let (certificate, roots) = certificates.split_first().ok_or(missing("certificate"))?;
        if roots.is_empty() {
            return Err(missing("root certificate"));
        }
        let key = keys.first().ok_or(missing("private key"))?;
        Ok(Self {
            certificate_pem: certificate.clone(),
            key_pem: Secret::new(key.clone()),
            ca_pem: roots.concat(),
        })
    }
}

/// The PEM blocks whose label is wanted, each with its frame.
fn blocks(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines().map(str::trim_end) {
        if let Some(label) = frame(line, "-----BEGIN ") {
            open = wanted(label).then(|| (label.to_owned(), String::new()));
        }
        let Some((label, block)) = &mut open else { continue };
        block.push_str(line);
        block.push('\n');
        if frame(line, "-----END ") == Some(label.as_str()) {
            found.extend(open.take().map(|(_, block)| block));
        }
    }
    found
}

fn frame<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

/// A new private key and the request to sign its public half.
#[derive(Debug)]
pub struct KeyAndRequest {
    /// The private key, PEM.
    pub key_pem: Secret,
    /// The certificate signing request, PEM.
    pub request_pem: String,
}

impl KeyAndRequest {
    /// Makes both.
    pub fn make() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::MakeKey)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(AuthorityError::Sign)?;
        let request_pem = request.pem().map_err(AuthorityError::Sign)?;
        Ok(Self { key_pem: Secret::new(key.serialize_pem()), request_pem })
    }
}

/// Signs for one cluster.
#[derive(Debug)]
pub struct Authority {
    cluster_id: String,
    certificate_pem: String,
    /// All roots that members trust; its own is the first.
    roots_pem: String,
    /// Its root as an intermediate of the one before, while members may trust only that one.
    vouched_pem: Option<String>,
    issuer: Issuer<'static, KeyPair>,
    life: Duration,
}

/// A new authority, and what makes it known to members who trust only the former one.
#[derive(Debug)]
pub struct Successor {
    /// The new one.
    pub authority: Authority,
    /// Its root as an intermediate of the former one, PEM.
    pub vouched_pem: String,
}

impl Authority {
    /// Makes the root of a new cluster: ECDSA P-256, 20 years.
    pub fn create(cluster_id: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::MakeKey)?;
        let params = root(cluster_id, now)?;
        let certificate = params.self_signed(&key).map_err(AuthorityError::Sign)?;
        Ok(Self {
            cluster_id: cluster_id.to_owned(),
            certificate_pem: certificate.pem(),
            roots_pem: certificate.pem(),
            vouched_pem: None,
            issuer: Issuer::new(params, key),
            life: CERTIFICATE_LIFE,
        })
    }

    /// The authority of a cluster that exists.
    pub fn of(cluster: &Cluster) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(cluster.ca_key.reveal()).map_err(AuthorityError::Key)?;
        let issuer = Issuer::from_ca_cert_pem(&cluster.ca_certificate, key)
            .map_err(|error| AuthorityError::Certificate { reason: error.to_string() })?;
        Ok(Self {
            cluster_id: cluster.id.clone(),
            certificate_pem: cluster.ca_certificate.clone(),
            roots_pem: cluster.roots(),
            vouched_pem: cluster.former_authority.as_ref().map(|former| former.vouched.clone()),
            issuer,
            life: CERTIFICATE_LIFE,
        })
    }

    /// Makes the one that takes its place, with a root and a key of its own, and vouches for it.
    pub fn succeed(&self, now: SystemTime) -> Result<Successor, AuthorityError> {
        let mut authority = Self::create(&self.cluster_id, now)?;
        let intermediate = root(&self.cluster_id, now)?;
        let vouched = intermediate.signed_by(authority.issuer.key(), &self.issuer);
        let vouched_pem = vouched.map_err(AuthorityError::Sign)?.pem();
        authority.roots_pem = format!("{}{}", authority.certificate_pem, self.certificate_pem);
        authority.vouched_pem = Some(vouched_pem.clone());
        authority.life = self.life;
        Ok(Successor { authority, vouched_pem })
    }

    /// Signs certificates that are valid for so long, from now on.
    #[must_use]
    pub fn with_life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// The root certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The roots that members trust, PEM: its own first.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// The root's private key, PEM.
    pub fn key_pem(&self) -> Secret {
        Secret::new(self.issuer.key().serialize_pem())
    }

    /// Makes a node's key, certificate and roots.
    pub fn make_node(
        &self,
        node: NodeId,
        role: Role,
        now: SystemTime,
    ) -> Result<Credentials, AuthorityError> {
        let KeyAndRequest { key_pem, request_pem } = KeyAndRequest::make()?;
        let certificate_pem = self.sign_node(&request_pem, node, role, now)?;
        Ok(Credentials { certificate_pem, key_pem, ca_pem: self.roots_pem.clone() })
    }

    /// Signs a node's public key. Nothing but the key is taken from the request. Returns PEM: the certificate, and what
    /// makes it known to peers who trust only the former root.
    pub fn sign_node(
        &self,
        request_pem: &str,
        node: NodeId,
        role: Role,
        now: SystemTime,
    ) -> Result<String, AuthorityError> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)
            .map_err(AuthorityError::Request)?;
        let mut names = vec![node_name(node), AGENT_NAME.to_owned()];
        if role == Role::Controller {
            names.push(CONTROLLER_NAME.to_owned());
        }
        let mut params = self.leaf(now)?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let alternative = CertificateParams::new(names).map_err(AuthorityError::Sign)?;
        params.subject_alt_names = alternative.subject_alt_names;
        let certificate = self.sign(params, &node.to_string(), role.into(), &request.public_key)?;
        Ok(certificate + self.vouched_pem.as_deref().unwrap_or_default())
    }

    /// Makes a key and a certificate for a person or program. It cannot serve.
    pub fn make_client(
        &self,
        name: &str,
        role: ClientRole,
        now: SystemTime,
    ) -> Result<Credentials, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::MakeKey)?;
        let mut params = self.leaf(now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(Credentials {
            certificate_pem: self.sign(params, name, role.into(), &key)?,
            key_pem: Secret::new(key.serialize_pem()),
            ca_pem: self.roots_pem.clone(),
        })
    }

    fn leaf(&self, now: SystemTime) -> Result<CertificateParams, AuthorityError> {
        let mut params = lasting(now, self.life)?;
        params.distinguished_name.push(DnType::OrganizationName, self.cluster_id.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        role: PeerRole,
        key: &impl PublicKeyData,
    ) -> Result<String, AuthorityError> {
        params.distinguished_name.push(DnType::OrganizationalUnitName, role.as_str());
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(key, &self.issuer).map_err(AuthorityError::Sign)?;
        Ok(certificate.pem())
    }
}

/// Parameters of a root certificate: ECDSA P-256, 20 years, signs nothing but leaves.
fn root(cluster_id: &str, now: SystemTime) -> Result<CertificateParams, AuthorityError> {
    let mut params = lasting(now, ROOT_LIFE)?;
    params.distinguished_name.push(DnType::OrganizationName, cluster_id);
    params.distinguished_name.push(DnType::CommonName, "swarm root");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Parameters of a certificate without a subject, valid from a little before `now`.
fn lasting(now: SystemTime, life: Duration) -> Result<CertificateParams, AuthorityError> {
    let at = |time: SystemTime| {
        date_time_ymd(1970, 1, 1) + time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
    };
    let mut serial: [u8; 16] = random()?;
    // Serial numbers are positive.
    serial[0] &= 0x7f;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = at(now - BACKDATE.min(life / 10));
    params.not_after = at(now + life);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// The SHA-256 of a PEM certificate's DER form: 64 hexadecimal digits.
pub fn certificate_digest(certificate_pem: &str) -> Result<String, AuthorityError> {
    Ok(hex(&Sha256::digest(der(certificate_pem)?)))
}

/// The SHA-256 of several PEM certificates' DER forms in their order: 64 hexadecimal digits.
pub fn roots_digest(pem: &str) -> Result<String, AuthorityError> {
    let mut digest = Sha256::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        digest.update(certificate.map_err(|error| unreadable(&error))?);
    }
    Ok(hex(&digest.finalize()))
}

/// The first of several PEM certificates; empty when there is none.
pub(super) fn first_certificate(pem: &str) -> String {
    blocks(pem, |label| label == "CERTIFICATE").into_iter().next().unwrap_or_default()
}

/// Whether one of several PEM certificates has this digest.
pub(super) fn holds_root(pem: &str, digest: &str) -> bool {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten();
    certificates.into_iter().any(|certificate| hex(&Sha256::digest(&certificate)) == digest)
}

/// From when until when a PEM certificate is valid.
pub fn certificate_validity(pem: &str) -> Result<(SystemTime, SystemTime), AuthorityError> {
    let der = der(pem)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der)
        .map_err(|error| AuthorityError::Certificate { reason: error.to_string() })?;
    let at = |time: x509_parser::time::ASN1Time| {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
    };
    let validity = certificate.validity();
    Ok((at(validity.not_before), at(validity.not_after)))
}

fn der(pem: &str) -> Result<CertificateDer<'static>, AuthorityError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unreadable(&error))
}

fn unreadable(error: &rustls::pki_types::pem::Error) -> AuthorityError {
    AuthorityError::Certificate { reason: error.to_string() }
}

/// Whether a given secret is the right one, in a time that tells nothing about where they differ.
pub fn same_secret(right: &Secret, given: &str) -> bool {
    Sha256::digest(right.reveal()) == Sha256::digest(given)
}

/// As many random bytes, two hexadecimal digits each.
pub fn random_hex<const BYTES: usize>() -> Result<String, AuthorityError> {
    Ok(hex(&random::<BYTES>()?))
}

/// A random number of 64 bits.
pub fn random_number() -> Result<u64, AuthorityError> {
    random().map(u64::from_le_bytes)
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], AuthorityError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Random)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
