//! The certificate authority: one root made by `init`, whose key lives in the replicated state, and the
//! certificates it signs. A certificate's subject is the only identity that anybody trusts.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use swarm_proto::id::NodeId;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const ROOT_LIFE: Duration = DAY.saturating_mul(365 * 20);
/// Certificates are not renewed yet, so they live as long as a cluster may.
const LEAF_LIFE: Duration = DAY.saturating_mul(365 * 10);
/// Hosts' clocks may differ by this much.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The root's certificate or key is unusable.
    #[error("the cluster's root certificate cannot sign")]
    Root(#[source] rcgen::Error),
    /// The request is not a certificate signing request in PEM.
    #[error("the certificate signing request cannot be read")]
    Request(#[source] rcgen::Error),
    /// No key could be made.
    #[error("no key can be made")]
    Key(#[source] rcgen::Error),
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A host that runs a controller (and an agent).
    Controller(NodeId),
    /// A host that runs an agent only.
    Agent(NodeId),
    /// A person with `swarmctl`.
    Client,
}

impl Subject {
    fn common_name(self) -> String {
        match self {
            Self::Controller(node) | Self::Agent(node) => node.to_string(),
            Self::Client => String::from("admin"),
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Controller(_) => "controller",
            Self::Agent(_) => "agent",
            Self::Client => "client",
        }
    }

    fn names(self) -> Vec<String> {
        match self {
            Self::Controller(node) => vec![
                format!("n{node}.swarm"),
                String::from("controller.swarm"),
                String::from("agent.swarm"),
            ],
            Self::Agent(node) => vec![format!("n{node}.swarm"), String::from("agent.swarm")],
            Self::Client => Vec::new(),
        }
    }
}

/// A certificate and its private key, both PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// The root of one cluster.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cluster: String,
}

impl Authority {
    /// Makes a new root for a cluster.
    pub fn create(cluster: &str) -> Result<Pair, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Key)?;
        let mut params = dated(ROOT_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::OrganizationName, cluster);
        params.distinguished_name.push(DnType::CommonName, "swarm root");
        let certificate = params.self_signed(&key).map_err(AuthorityError::Root)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Takes up the root of a cluster.
    pub fn open(cluster: &str, certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key).map_err(AuthorityError::Root)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(AuthorityError::Root)?;
        Ok(Self { issuer, cluster: cluster.to_owned() })
    }

    /// Signs the public key of a request (PEM); nothing else in the request counts.
    pub fn sign(&self, request: &str, subject: Subject) -> Result<String, AuthorityError> {
        let request =
            CertificateSigningRequestParams::from_pem(request).map_err(AuthorityError::Request)?;
        self.issue(&request.public_key, subject)
    }

    /// Makes a key and its certificate.
    pub fn pair(&self, subject: Subject) -> Result<Pair, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Key)?;
        Ok(Pair { certificate: self.issue(&key, subject)?, key: key.serialize_pem() })
    }

    fn issue(&self, key: &impl PublicKeyData, subject: Subject) -> Result<String, AuthorityError> {
        let mut params = dated(LEAF_LIFE);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, self.cluster.as_str());
        name.push(DnType::OrganizationalUnitName, subject.unit());
        name.push(DnType::CommonName, subject.common_name());
        for host in subject.names() {
            let host = host.try_into().map_err(AuthorityError::Root)?;
            params.subject_alt_names.push(rcgen::SanType::DnsName(host));
        }
        let certificate = params.signed_by(key, &self.issuer).map_err(AuthorityError::Root)?;
        Ok(certificate.pem())
    }
}

fn dated(life: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> (Authority, String) {
        let root = Authority::create("c1").unwrap();
        (Authority::open("c1", &root.certificate, &root.key).unwrap(), root.certificate)
    }

    fn subject_of(pem: &str) -> String {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        pem.parse_x509().unwrap().subject().to_string()
    }

    #[test]
    fn the_subject_is_ours_whatever_the_request_says() {
        let (authority, root) = authority();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([String::from("controller.swarm")]).unwrap();
        params.distinguished_name.push(DnType::OrganizationalUnitName, "controller");
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let certificate = authority.sign(&request, Subject::Agent(NodeId(7))).unwrap();
        assert_eq!(subject_of(&certificate), "O=c1, OU=agent, CN=7");

        let (_, root) = x509_parser::pem::parse_x509_pem(root.as_bytes()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).unwrap();
        let leaf = pem.parse_x509().unwrap();
        leaf.verify_signature(Some(root.parse_x509().unwrap().public_key())).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        let names: Vec<String> =
            names.value.general_names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["DNSName(n7.swarm)", "DNSName(agent.swarm)"]);
        assert!(!leaf.is_ca());
    }

    #[test]
    fn a_client_has_no_host_names() {
        let (authority, _) = authority();
        let pair = authority.pair(Subject::Client).unwrap();
        assert_eq!(subject_of(&pair.certificate), "O=c1, OU=client, CN=admin");
        assert!(pair.key.contains("PRIVATE KEY"));
    }

    #[test]
    fn rubbish_is_refused() {
        let (authority, _) = authority();
        let refused = authority.sign("rubbish", Subject::Client).unwrap_err();
        assert!(matches!(refused, AuthorityError::Request(_)));
        assert!(Authority::open("c1", "rubbish", "rubbish").is_err());
    }
}
