//! The OCI distribution protocol, with one endpoint about one repository.
//!
//! Who asks is shown once the endpoint wants to know, or at once where there is a login; a token that has run out is
//! replaced by the next request that needs it. Nothing is shown to any other host than the endpoint's own.

use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use prost::bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use swarm_proto::id::Digest;
use swarm_proto::object::RegistryLogin;
use tokio::sync::OnceCell;

use super::answer::{Failure, LARGEST_MANIFEST, LARGEST_TOKEN, refused, small};
use super::challenge::{Challenge, challenge};
use super::registry::Endpoint;
use super::store::sha256;

/// What is understood of manifests and indexes.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
                              application/vnd.docker.distribution.manifest.list.v2+json, \
                              application/vnd.oci.image.manifest.v1+json, \
                              application/vnd.docker.distribution.manifest.v2+json";
/// Where a registry says what a manifest's digest is.
const DIGEST: &str = "docker-content-digest";
/// Docker Hub's registry, which images' names call otherwise.
const HUB: (&str, &str) = ("docker.io", "index.docker.io");
/// Who asks for tokens.
const CLIENT: &str = "swarm";

/// What a conversation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// To fetch.
    Pull,
    /// To send, too.
    Push,
}

/// A stream of a blob's bytes, from the beginning or from where it was broken off.
pub(super) struct BlobStream {
    /// False: the endpoint began anew although a part was asked for.
    pub(super) resumed: bool,
    pub(super) bytes: BoxStream<'static, std::io::Result<Bytes>>,
}

/// See the module.
pub(super) struct Conversation {
    http: Client,
    base: Url,
    repository: String,
    right: Right,
    /// The registry whose mirror the endpoint is.
    mirrored: Option<String>,
    /// Who asks, found out when the endpoint is asked first.
    login: OnceCell<Option<RegistryLogin>>,
    introduced: OnceCell<()>,
    shown: Mutex<Option<HeaderValue>>,
    /// Held while something else to show is fetched.
    renewing: tokio::sync::Mutex<()>,
}

/// Where an endpoint's protocol begins.
pub(super) fn base(endpoint: &Endpoint) -> String {
    let (name, host) = HUB;
    let host = if endpoint.host == name { host } else { &endpoint.host };
    format!("{}://{host}/v2/", if endpoint.plain { "http" } else { "https" })
}

impl Conversation {
    pub(super) fn new(
        http: Client,
        endpoint: &Endpoint,
        (registry, repository): (&str, &str),
        right: Right,
    ) -> Result<Self, String> {
        let base = base(endpoint);
        let base = Url::parse(&base).map_err(|error| format!("`{base}` is no URL: {error}"))?;
        Ok(Self {
            http,
            base,
            repository: repository.to_owned(),
            right,
            mirrored: (endpoint.host != registry).then(|| registry.to_owned()),
            login: OnceCell::new(),
            introduced: OnceCell::new(),
            shown: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
        })
    }

    /// Says who asks, unless that is known.
    pub(super) async fn ask_as(&self, login: impl Future<Output = Option<RegistryLogin>>) {
        self.login.get_or_init(|| login).await;
    }

    /// What a tag stands for.
    pub(super) async fn digest(&self, tag: &str) -> Result<Digest, Failure> {
        let url = self.url(&format!("manifests/{tag}"))?;
        let asked = || self.http.head(url.clone()).header(ACCEPT, MANIFEST_TYPES);
        let answer = self.send(asked).await?;
        if answer.status().is_success()
            && let Some(told) = answer.headers().get(DIGEST)
        {
            let told = String::from_utf8_lossy(told.as_bytes()).into_owned();
            let not_one = |_| Failure::Broken(format!("`{told}` is no SHA-256 digest"));
            return told.parse().map_err(not_one);
        }
        // Some do not say it, and no reason comes without a body.
        Ok(sha256(&self.document(tag).await?))
    }

    /// A manifest or index, whose digest is what was asked for.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        let bytes = self.document(digest.as_str()).await?;
        match sha256(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(Failure::Broken(format!("it gives `{found}` in place of `{digest}`"))),
        }
    }

    async fn document(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let url = self.url(&format!("manifests/{name}"))?;
        let asked = || self.http.get(url.clone()).header(ACCEPT, MANIFEST_TYPES);
        let answer = self.send(asked).await?;
        match answer.status() {
            StatusCode::OK => small(answer, "manifest", LARGEST_MANIFEST).await,
            _ => Err(refused(answer).await),
        }
    }

    /// Opens a blob's stream at an offset; the caller compares its digest, and takes no more than there is to be.
    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<BlobStream, Failure> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let asked = || match offset {
            0 => self.http.get(url.clone()),
            offset => self.http.get(url.clone()).header(RANGE, format!("bytes={offset}-")),
        };
        let answer = self.send(asked).await?;
        let resumed = match answer.status() {
            StatusCode::OK => false,
            StatusCode::PARTIAL_CONTENT if offset > 0 => true,
            _ => return Err(refused(answer).await),
        };
        Ok(BlobStream { resumed, bytes: chunks(answer).boxed() })
    }

    /// Shows oneself, so that a refusal is known before anything is sent.
    pub(super) async fn begin(&self) -> Result<(), Failure> {
        self.introduced.get_or_try_init(|| self.introduce()).await.copied()
    }

    /// Whether the registry has a blob in this repository.
    pub(super) async fn has(&self, digest: &Digest) -> Result<bool, Failure> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let answer = self.send(|| self.http.head(url.clone())).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(refused(answer).await),
        }
    }

    /// Whether the registry takes a blob from another of its repositories.
    pub(super) async fn mount(&self, digest: &Digest, from: &str) -> Result<bool, Failure> {
        let url = self.url("blobs/uploads/")?;
        let query = [("mount", digest.as_str()), ("from", from)];
        let asked = || self.http.post(url.clone()).query(&query).header(CONTENT_LENGTH, 0);
        Ok(self.send(asked).await?.status() == StatusCode::CREATED)
    }

    /// Sends a blob, in one request.
    pub(super) async fn send_blob(
        &self,
        digest: &Digest,
        size: u64,
        bytes: Body,
    ) -> Result<(), Failure> {
        let url = self.url("blobs/uploads/")?;
        let asked = || self.http.post(url.clone()).header(CONTENT_LENGTH, 0);
        let answer = self.send(asked).await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(refused(answer).await);
        }
        let place = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let place = place.and_then(|place| self.base.join(place).ok());
        let mut place = place
            .ok_or_else(|| Failure::Broken("it does not say where a blob is to go".to_owned()))?;
        place.query_pairs_mut().append_pair("digest", digest.as_str());
        let request = self
            .http
            .put(place.clone())
            .header(CONTENT_LENGTH, size)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(bytes);
        // A registry may have its uploads elsewhere, and nobody else is shown anything.
        let shown = if self.is_own(&place) { self.shown() } else { None };
        let answer = send(request, shown.as_ref()).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            _ => Err(refused(answer).await),
        }
    }

    /// Gives a manifest, whose blobs are all there, a tag.
    pub(super) async fn send_manifest(
        &self,
        tag: &str,
        media_type: &str,
        manifest: Vec<u8>,
    ) -> Result<(), Failure> {
        let url = self.url(&format!("manifests/{tag}"))?;
        let media_type = HeaderValue::from_str(media_type)
            .map_err(|_| Failure::Broken(format!("`{media_type}` is no media type")))?;
        let manifest = Bytes::from(manifest);
        let asked = || {
            let request = self.http.put(url.clone()).header(CONTENT_TYPE, media_type.clone());
            request.body(manifest.clone())
        };
        let answer = self.send(asked).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            _ => Err(refused(answer).await),
        }
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        let path = format!("{}/{path}", self.repository);
        let mut url = self
            .base
            .join(&path)
            .map_err(|error| Failure::Broken(format!("`{path}` is no path: {error}")))?;
        if let Some(registry) = &self.mirrored {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        Ok(url)
    }

    fn is_own(&self, url: &Url) -> bool {
        let place = |url: &Url| {
            let host = url.host_str().map(str::to_owned);
            (url.scheme().to_owned(), host, url.port_or_known_default())
        };
        place(url) == place(&self.base)
    }

    fn shown(&self) -> Option<HeaderValue> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn login(&self) -> Option<&RegistryLogin> {
        self.login.get().and_then(Option::as_ref)
    }

    /// Sends a request, and once more when the endpoint wants to know who asks.
    async fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, Failure> {
        // Some say of what is not everybody's only that it is not there.
        if self.login().is_some() {
            self.begin().await?;
        }
        let shown = self.shown();
        let answer = send(request(), shown.as_ref()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let wanted = challenge(&answer).ok_or(Failure::Denied)?;
        drop(answer);
        let renewed = self.show(&wanted, shown.as_ref()).await?;
        send(request(), Some(&renewed)).await
    }

    /// Asks how the endpoint wants to be shown who asks.
    async fn introduce(&self) -> Result<(), Failure> {
        let answer = send(self.http.get(self.base.clone()), None).await?;
        let wanted = challenge(&answer).filter(|_| answer.status() == StatusCode::UNAUTHORIZED);
        drop(answer);
        match wanted {
            Some(wanted) => self.show(&wanted, None).await.map(drop),
            None => Ok(()),
        }
    }

    /// Something else to show than what was not enough; it may have come meanwhile.
    async fn show(
        &self,
        wanted: &Challenge,
        before: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Failure> {
        let _turn = self.renewing.lock().await;
        if let Some(other) = self.shown().filter(|shown| Some(shown) != before) {
            return Ok(other);
        }
        let new = match wanted {
            Challenge::Basic => {
                // An identity token is no password.
                let login =
                    self.login().filter(|login| !login.is_token()).ok_or(Failure::Denied)?;
                self.basic(login).filter(|new| Some(new) != before).ok_or(Failure::Denied)?
            }
            Challenge::Bearer { realm, service } => {
                let token = self.token(realm, service.as_deref()).await?;
                let mut new = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| Failure::Broken(format!("`{realm}` gives no token")))?;
                new.set_sensitive(true);
                new
            }
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = Some(new.clone());
        Ok(new)
    }

    /// A name and password, as they are shown.
    fn basic(&self, login: &RegistryLogin) -> Option<HeaderValue> {
        let request = self.http.get(self.base.clone());
        let request = request.basic_auth(&login.user, Some(login.password.reveal()));
        request.build().ok()?.headers().get(AUTHORIZATION).cloned()
    }

    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String, Failure> {
        let url = Url::parse(realm)
            .map_err(|_| Failure::Broken(format!("its tokens come from `{realm}`, no URL")))?;
        let login = self.login();
        if login.is_some() && self.base.scheme() == "https" && url.scheme() != "https" {
            let why = format!("its tokens come from `{realm}`, without TLS");
            return Err(Failure::Broken(why));
        }
        let rights = if self.right == Right::Push { "pull,push" } else { "pull" };
        let scope = format!("repository:{}:{rights}", self.repository);
        let mut query = vec![("scope", scope.as_str()), ("client_id", CLIENT)];
        query.extend(service.map(|service| ("service", service)));
        let request = match login {
            Some(login) if login.is_token() => {
                query.push(("grant_type", "refresh_token"));
                query.push(("refresh_token", login.password.reveal()));
                let form = encoded(url.clone(), &query);
                let request = self.http.post(url).body(form);
                request.header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            }
            Some(login) => {
                let request = self.http.get(url).query(&query);
                request.basic_auth(&login.user, Some(login.password.reveal()))
            }
            None => self.http.get(url).query(&query),
        };
        let answer = send(request, None).await?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                return Err(Failure::Denied);
            }
            _ => return Err(refused(answer).await),
        }
        let given = small(answer, "token", LARGEST_TOKEN).await?;
        let given: Option<Given> = serde_json::from_slice(&given).ok();
        let token = given.and_then(|given| given.token.or(given.access_token));
        token.ok_or_else(|| Failure::Broken(format!("`{realm}` gives no token")))
    }
}

/// Pairs as a form has them; the URL lends its way of writing them.
fn encoded(mut url: Url, pairs: &[(&str, &str)]) -> String {
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// A token, by one of its two names.
#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
}

async fn send(request: RequestBuilder, shown: Option<&HeaderValue>) -> Result<Response, Failure> {
    let request = match shown {
        Some(shown) => request.header(AUTHORIZATION, shown.clone()),
        None => request,
    };
    request.send().await.map_err(|error| Failure::of_connection(&error))
}

fn chunks(answer: Response) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send {
    unfold(answer, |mut answer| async move {
        let chunk = answer.chunk().await.map_err(std::io::Error::other).transpose()?;
        Some((chunk, answer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_one_base() {
        let hub = Endpoint { host: "docker.io".to_owned(), plain: false };
        assert_eq!(base(&hub), "https://index.docker.io/v2/");
        let plain = Endpoint { host: "a.example:5000".to_owned(), plain: true };
        assert_eq!(base(&plain), "http://a.example:5000/v2/");
    }
}
