//! Speaks the OCI distribution protocol with a registry and its mirrors, in the configured order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use oci_client::client::{
    BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol,
};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::secrets::RegistryAuth;
use prost::bytes::Bytes;
use swarm_proto::id::Digest;
use tokio::sync::OnceCell;

use super::keyring::Keyring;
use super::{ImageError, Reference};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// What registries are told of who asks.
pub(super) const USER_AGENT: &str = concat!("swarm-agent/", env!("CARGO_PKG_VERSION"));
const MANIFEST_TYPES: &[&str] = &[
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
];

/// One place that serves images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host` or `host:port`.
    pub host: String,
    /// Without TLS.
    pub plain: bool,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain { "http" } else { "https" };
        write!(f, "{scheme}://{}", self.host)
    }
}

/// Where the images of which registry are fetched.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// Asked first, in this order, by registry name.
    pub mirrors: BTreeMap<String, Vec<Endpoint>>,
    /// Registries that are asked without TLS.
    pub insecure: BTreeSet<String>,
    /// Registries that are never asked themselves, only their mirrors.
    pub mirrors_only: BTreeSet<String>,
    /// The HTTP proxy through which registries that speak TLS are reached.
    pub proxy: Option<String>,
    /// By `host` or `host:port`, files of certificates that are trusted beside the host's own, PEM.
    pub ca_files: BTreeMap<String, PathBuf>,
    /// A file of names and passwords as Docker writes it, for registries where the cluster has no login.
    pub logins: Option<PathBuf>,
}

impl Registries {
    /// Whom to ask for images of a registry, in order.
    pub fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let mut endpoints = self.mirrors.get(registry).cloned().unwrap_or_default();
        if !self.mirrors_only.contains(registry) {
            endpoints.push(self.own_endpoint(registry));
        }
        endpoints
    }

    /// The registry itself.
    pub(super) fn own_endpoint(&self, registry: &str) -> Endpoint {
        let plain = self.insecure.contains(registry) || is_loopback(registry);
        Endpoint { host: registry.to_owned(), plain }
    }

    /// What connections to an endpoint have in common.
    pub(super) fn client(&self, endpoint: &Endpoint) -> Result<ClientConfig, String> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|error| {
                format!("cannot read `{}`, its certificates: {error}", path.display())
            })
        };
        let certificates = self.ca_files.get(&endpoint.host).map(read).transpose()?;
        let certificate = |data| Certificate { encoding: CertificateEncoding::Pem, data };
        Ok(ClientConfig {
            protocol: if endpoint.plain { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            // Who is asked without TLS is not known anyway; all content is compared with its digest.
            accept_invalid_certificates: endpoint.plain,
            user_agent: USER_AGENT,
            https_proxy: self.proxy.clone(),
            extra_root_certificates: certificates.map(certificate).into_iter().collect(),
            ..ClientConfig::default()
        })
    }
}

/// A registry on the host itself is asked without TLS, as Docker does.
fn is_loopback(registry: &str) -> bool {
    let host = registry.split(':').next().unwrap_or_default();
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback())
}

/// Why one endpoint did not answer as hoped.
#[derive(Debug)]
pub(super) enum Failure {
    /// It does not have it.
    NotFound,
    /// It wants other credentials, or hides what it does not have.
    Denied,
    /// Perhaps later.
    Transient(String),
    /// It answered something that makes no sense.
    Broken(String),
}

/// A stream of a blob's bytes, from the beginning or from where it was broken off.
pub(super) struct BlobStream {
    /// False: the endpoint began anew although a part was asked for.
    pub(super) resumed: bool,
    pub(super) bytes: BoxStream<'static, Result<Bytes, std::io::Error>>,
}

struct Place {
    endpoint: Endpoint,
    client: oci_client::Client,
    base: oci_client::Reference,
    /// Found out when it is asked first.
    auth: OnceCell<RegistryAuth>,
}

impl Place {
    fn auth(&self) -> &RegistryAuth {
        self.auth.get().unwrap_or(&RegistryAuth::Anonymous)
    }
}

/// A conversation about one image.
pub(super) struct Source {
    reference: Reference,
    places: Vec<Place>,
    keyring: Keyring,
    /// The place that answered last is asked first.
    preferred: AtomicUsize,
}

impl Source {
    pub(super) fn new(
        registries: &Registries,
        reference: &Reference,
        keyring: Keyring,
    ) -> Result<Self, ImageError> {
        let endpoints = registries.endpoints(&reference.registry);
        let places: Result<Vec<_>, _> =
            endpoints.into_iter().map(|endpoint| place(registries, endpoint, reference)).collect();
        let places = places.map_err(|reason| ImageError::Unavailable {
            reference: reference.to_string(),
            detail: format!("the connection cannot be prepared: {reason}"),
        })?;
        let preferred = AtomicUsize::new(0);
        Ok(Self { reference: reference.clone(), places, keyring, preferred })
    }

    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Asks what the reference's tag stands for.
    pub(super) async fn digest(&self) -> Result<Digest, ImageError> {
        let tag = self.reference.tag.clone().unwrap_or_default();
        self.ask(2, |place| {
            let name = tagged(&place.base, &tag);
            Box::pin(async move {
                let digest = place.client.fetch_manifest_digest(&name, place.auth()).await;
                let digest = digest.map_err(failure)?;
                let not_one = |_| Failure::Broken(format!("`{digest}` is no SHA-256 digest"));
                digest.parse().map_err(not_one)
            })
        })
        .await
    }

    /// Fetches a manifest or index, as it is; the caller compares its digest.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Bytes, ImageError> {
        self.ask(4, |place| {
            let name = place.base.clone_with_digest(digest.to_string());
            Box::pin(async move {
                let auth = place.auth();
                let pulled = place.client.pull_manifest_raw(&name, auth, MANIFEST_TYPES).await;
                pulled.map(|(bytes, _)| bytes).map_err(failure)
            })
        })
        .await
    }

    /// Opens a blob's stream at an offset; the caller compares its digest.
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<BlobStream, ImageError> {
        self.ask(4, |place| {
            let name = place.base.clone();
            Box::pin(async move {
                let registry = name.resolve_registry().to_owned();
                place.client.store_auth_if_needed(&registry, place.auth()).await;
                let digest = digest.as_str();
                if offset == 0 {
                    let stream = place.client.pull_blob_stream(&name, digest).await;
                    let bytes = stream.map_err(failure)?.stream;
                    return Ok(BlobStream { resumed: false, bytes });
                }
                let response =
                    place.client.pull_blob_stream_partial(&name, digest, offset, None).await;
                Ok(match response.map_err(failure)? {
                    BlobResponse::Full(all) => BlobStream { resumed: false, bytes: all.stream },
                    BlobResponse::Partial(rest) => BlobStream { resumed: true, bytes: rest.stream },
                })
            })
        })
        .await
    }

    /// Asks the places in turn until one has it. Rounds follow, with growing pauses, only while all failures are of
    /// the passing kind.
    async fn ask<'a, T>(
        &'a self,
        rounds: u32,
        request: impl Fn(&'a Place) -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T, ImageError> {
        let mut round = 0;
        loop {
            let mut failures = Vec::new();
            for turn in 0..self.places.len() {
                let preferred = self.preferred.load(Ordering::Relaxed);
                let index = (preferred + turn) % self.places.len();
                let place = &self.places[index];
                place.auth.get_or_init(|| self.keyring.find(&place.endpoint.host)).await;
                match request(place).await {
                    Ok(answer) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(failure) => failures.push((&place.endpoint, failure)),
                }
            }
            round += 1;
            let passing = failures.iter().all(|(_, f)| matches!(f, Failure::Transient(_)));
            if !passing || round == rounds {
                return Err(self.conclude(&failures));
            }
            tokio::time::sleep(Duration::from_millis(300) * 3_u32.pow(round - 1)).await;
        }
    }

    /// One error of all failures: somebody's "not found" or "denied" says more than another's silence.
    fn conclude(&self, failures: &[(&Endpoint, Failure)]) -> ImageError {
        let reference = self.reference.to_string();
        let say = |(endpoint, failure): &(&Endpoint, Failure)| match failure {
            Failure::NotFound => format!("{endpoint} does not have it"),
            Failure::Denied => format!("{endpoint} denies access"),
            Failure::Transient(reason) => format!("{endpoint} cannot be reached: {reason}"),
            Failure::Broken(reason) => format!("{endpoint} answers wrongly: {reason}"),
        };
        let detail = failures.iter().map(say).collect::<Vec<_>>().join("; ");
        if failures.iter().any(|(_, failure)| matches!(failure, Failure::NotFound)) {
            return ImageError::NotFound { reference, detail };
        }
        if let Some((endpoint, _)) = failures.iter().find(|(_, f)| matches!(f, Failure::Denied)) {
            return ImageError::Denied { reference, registry: endpoint.to_string() };
        }
        ImageError::Unavailable { reference, detail }
    }
}

fn place(
    registries: &Registries,
    endpoint: Endpoint,
    reference: &Reference,
) -> Result<Place, String> {
    let registry = reference.registry.clone();
    let tag = reference.tag.clone().unwrap_or_default();
    let mut base =
        oci_client::Reference::with_tag(registry.clone(), reference.repository.clone(), tag);
    if endpoint.host != registry {
        base.set_mirror_registry(endpoint.host.clone());
    }
    let client = client(registries.client(&endpoint)?)?;
    Ok(Place { endpoint, client, base, auth: OnceCell::new() })
}

/// A client of a registry.
pub(super) fn client(config: ClientConfig) -> Result<oci_client::Client, String> {
    // The library makes such a client beside the one that it is asked for, and panics where the host has no root
    // certificates: here it is an error.
    let checked = reqwest::Client::builder().build();
    checked.map_err(|error| innermost(&error))?;
    oci_client::Client::try_from(config).map_err(|error| innermost(&error))
}

fn tagged(base: &oci_client::Reference, tag: &str) -> oci_client::Reference {
    let (registry, repository) = (base.registry().to_owned(), base.repository().to_owned());
    let mut name = oci_client::Reference::with_tag(registry, repository, tag.to_owned());
    if base.resolve_registry() != name.resolve_registry() {
        name.set_mirror_registry(base.resolve_registry().to_owned());
    }
    name
}

/// What an error of the library is.
pub(super) fn failure(error: OciDistributionError) -> Failure {
    use OciErrorCode as Code;
    match error {
        OciDistributionError::RegistryError { envelope, .. } => {
            let has = |wanted: &[Code]| envelope.errors.iter().any(|e| wanted.contains(&e.code));
            if has(&[Code::ManifestUnknown, Code::NameUnknown, Code::NotFound, Code::BlobUnknown]) {
                Failure::NotFound
            } else if has(&[Code::Unauthorized, Code::Denied]) {
                Failure::Denied
            } else if has(&[Code::Toomanyrequests]) {
                Failure::Transient(one_line(&envelope.to_string()))
            } else {
                Failure::Broken(one_line(&envelope.to_string()))
            }
        }
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => Failure::NotFound,
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::ServerError { code: 401 | 403, .. } => Failure::Denied,
        OciDistributionError::ServerError { code, message, .. } if code == 429 || code >= 500 => {
            Failure::Transient(one_line(&format!("status {code}: {message}")))
        }
        OciDistributionError::RequestError(error) => match error.status().map(|s| s.as_u16()) {
            Some(404) => Failure::NotFound,
            Some(401 | 403) => Failure::Denied,
            Some(code) if code != 429 && code < 500 => Failure::Broken(format!("status {code}")),
            Some(code) => Failure::Transient(format!("status {code}")),
            None => Failure::Transient(innermost(&error)),
        },
        OciDistributionError::IoError(error) => Failure::Transient(innermost(&error)),
        other => Failure::Broken(one_line(&other.to_string())),
    }
}

/// The cause at the bottom says it: "connection refused".
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    one_line(&current.to_string())
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first() {
        let mut registries = Registries::default();
        let mirror = Endpoint { host: "10.0.0.1:5000".into(), plain: true };
        registries.mirrors.insert("docker.io".into(), vec![mirror]);
        let say = |registries: &Registries, name: &str| {
            let endpoints = registries.endpoints(name);
            endpoints.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(say(&registries, "docker.io"), ["http://10.0.0.1:5000", "https://docker.io"]);
        assert_eq!(say(&registries, "a.example"), ["https://a.example"]);
        assert_eq!(say(&registries, "localhost:5000"), ["http://localhost:5000"]);
        assert_eq!(say(&registries, "127.0.0.1:5000"), ["http://127.0.0.1:5000"]);
        registries.mirrors_only.insert("docker.io".into());
        registries.insecure.insert("a.example".into());
        assert_eq!(say(&registries, "docker.io"), ["http://10.0.0.1:5000"]);
        assert_eq!(say(&registries, "a.example"), ["http://a.example"]);
    }
}
