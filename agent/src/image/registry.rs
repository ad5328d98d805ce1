//! Where images come from: registries and their mirrors, asked in the configured order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, Proxy, Url};
use swarm_proto::id::Digest;

use super::answer::{Failure, innermost};
use super::conversation::{BlobStream, Conversation, Right};
use super::keyring::Keyring;
use super::{ImageError, Reference};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// So often an answer may lead on to somewhere else.
const MOST_HOPS: usize = 10;
/// What registries are told of who asks.
const USER_AGENT: &str = concat!("swarm-agent/", env!("CARGO_PKG_VERSION"));

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

/// Why somebody does not go where a registry leads.
#[derive(Debug, thiserror::Error)]
enum Misled {
    /// What may be signed in the rest of the address is not told.
    #[error("it leads on to `http://{0}`, without TLS")]
    Plain(String),
    #[error("it leads on more than {MOST_HOPS} times")]
    TooOften,
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
    pub(super) fn client(&self, endpoint: &Endpoint) -> Result<ClientBuilder, String> {
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(self.redirects(endpoint))
            // Who is asked without TLS is not known anyway; all content is compared with its digest.
            .danger_accept_invalid_certs(endpoint.plain);
        if let Some(path) = self.ca_files.get(&endpoint.host) {
            let wrong = |why: &dyn fmt::Display| {
                format!("cannot read `{}`, its certificates: {why}", path.display())
            };
            let pem = fs::read(path).map_err(|error| wrong(&error))?;
            let certificates = Certificate::from_pem_bundle(&pem);
            let certificates = certificates.map_err(|error| wrong(&innermost(&error)))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(Proxy::https(proxy).map_err(|error| innermost(&error))?);
        }
        Ok(builder)
    }
}

impl Registries {
    /// Where an endpoint may lead. One that speaks TLS leads to no host without it but one that is configured so.
    fn redirects(&self, endpoint: &Endpoint) -> Policy {
        let mirrors = self.mirrors.values().flatten().filter(|mirror| mirror.plain);
        let mirrors = mirrors.map(|mirror| mirror.host.clone());
        let plain: BTreeSet<String> = self.insecure.iter().cloned().chain(mirrors).collect();
        let is_plain = endpoint.plain;
        let check = move |attempt: &Attempt<'_>| {
            if attempt.previous().len() > MOST_HOPS {
                return Err(Misled::TooOften);
            }
            let [short, long] = places(attempt.url());
            if is_plain || attempt.url().scheme() == "https" || plain.contains(&short) {
                return Ok(());
            }
            if plain.contains(&long) { Ok(()) } else { Err(Misled::Plain(short)) }
        };
        Policy::custom(move |attempt| match check(&attempt) {
            Ok(()) => attempt.follow(),
            Err(misled) => attempt.error(misled),
        })
    }
}

/// A host as it is configured: without a port where that is the usual one, and with it.
fn places(url: &Url) -> [String; 2] {
    let host = url.host_str().unwrap_or_default();
    let with = |port: u16| format!("{host}:{port}");
    let short = url.port().map_or_else(|| host.to_owned(), with);
    [short, url.port_or_known_default().map(with).unwrap_or_default()]
}

/// A registry on the host itself is asked without TLS, as Docker does.
fn is_loopback(registry: &str) -> bool {
    let host = registry.split(':').next().unwrap_or_default();
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback())
}

struct Place {
    endpoint: Endpoint,
    conversation: Conversation,
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
        let tag = self.reference.tag.as_deref().unwrap_or_default();
        self.ask(2, |place| Box::pin(place.digest(tag))).await
    }

    /// Fetches a manifest or index, as it is.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        self.ask(4, |place| Box::pin(place.manifest(digest))).await
    }

    /// Opens a blob's stream at an offset; the caller compares its digest.
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<BlobStream, ImageError> {
        self.ask(4, |place| Box::pin(place.blob(digest, offset))).await
    }

    /// Asks the places in turn until one has it. Rounds follow, with growing pauses, only while all failures are of
    /// the passing kind.
    async fn ask<'a, T>(
        &'a self,
        rounds: u32,
        request: impl Fn(&'a Conversation) -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T, ImageError> {
        let mut round = 0;
        loop {
            let mut failures = Vec::new();
            for turn in 0..self.places.len() {
                let preferred = self.preferred.load(Ordering::Relaxed);
                let index = (preferred + turn) % self.places.len();
                let place = &self.places[index];
                let login = self.keyring.find(&place.endpoint.host);
                place.conversation.ask_as(login).await;
                match request(&place.conversation).await {
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
    let client = registries.client(&endpoint)?.read_timeout(READ_TIMEOUT).build();
    let client = client.map_err(|error| innermost(&error))?;
    let about = (reference.registry.as_str(), reference.repository.as_str());
    let conversation = Conversation::new(client, &endpoint, about, Right::Pull)?;
    Ok(Place { endpoint, conversation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_known_with_and_without_their_usual_port() {
        let of = |url: &str| places(&url.parse().unwrap());
        assert_eq!(of("http://a.example/x?y"), ["a.example", "a.example:80"]);
        assert_eq!(of("http://a.example:5000/"), ["a.example:5000", "a.example:5000"]);
        assert_eq!(of("http://[::1]:80/"), ["[::1]", "[::1]:80"]);
    }

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
