//! Manifests and indexes of repositories, by tag and by digest.

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::{Response, StatusCode};
use swarm_proto::failure::sentence;
use swarm_proto::id::Digest;

use super::RegistryServer;
use super::answer::Answer;
use super::body::{self, Body};
use super::refusal::{Code, Refusal};
use super::route::Named;
use crate::image::{DocumentView, RepositoryName, Tag};

/// No manifest or index is larger: what the specification asks for at least.
pub(super) const LARGEST: usize = 4 << 20;
/// Names of missing content that are told.
const TOLD: usize = 3;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// A manifest with its form.
struct Found {
    digest: Digest,
    media_type: String,
    bytes: Vec<u8>,
}

impl RegistryServer {
    pub(super) async fn get_manifest(
        &self,
        repository: &RepositoryName,
        named: &Named,
        (is_head, all): (bool, bool),
    ) -> Result<Response<Body>, Refusal> {
        let found = match named {
            Named::Tag(tag) => self.tagged(repository, tag, all).await,
            Named::Digest(digest) => self.known(repository, digest, all).await,
        };
        let Found { digest, media_type, bytes } = found.ok_or_else(unknown)?;
        let length = bytes.len() as u64;
        let body = (!is_head).then(|| body::full(bytes));
        let answer = Answer::new(StatusCode::OK).of(&digest);
        Ok(answer.body((&media_type, length), body).response())
    }

    async fn tagged(&self, repository: &RepositoryName, tag: &Tag, all: bool) -> Option<Found> {
        if let Some(digest) = self.images.hosted_tag(repository, tag) {
            return self.hosted(repository, &digest).await;
        }
        let (digest, bytes) = self.elsewhere.tagged(repository, tag, all).await?;
        found(digest, bytes)
    }

    async fn known(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        all: bool,
    ) -> Option<Found> {
        if let Some(found) = self.hosted(repository, digest).await {
            return Some(found);
        }
        let bytes = self.elsewhere.document(repository, digest, all).await?;
        found(digest.clone(), bytes)
    }

    async fn hosted(&self, repository: &RepositoryName, digest: &Digest) -> Option<Found> {
        let manifest = self.images.hosted_manifest(repository, digest)?;
        let Some(bytes) = self.images.stored_document(digest).await else {
            tracing::warn!(%repository, %digest, "a manifest is missing, or damaged, on this disk");
            return None;
        };
        Some(Found { digest: digest.clone(), media_type: manifest.media_type, bytes })
    }

    pub(super) async fn put_manifest(
        &self,
        repository: RepositoryName,
        named: Named,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let turn = self.documents.acquire().await;
        let bytes = body::whole(body, LARGEST).await?;
        let bytes = bytes.ok_or_else(|| {
            Refusal::new(Code::SizeInvalid, "a manifest has at most 4 MiB")
                .with_status(StatusCode::PAYLOAD_TOO_LARGE)
        })?;
        let digest = Digest::of([bytes.as_slice()]);
        let tag = match named {
            Named::Tag(tag) => Some(tag),
            Named::Digest(named) if named == digest => None,
            Named::Digest(named) => {
                let message = format!("what came is `{digest}`, not `{named}`");
                return Err(Refusal::new(Code::DigestInvalid, message));
            }
        };
        let view = DocumentView::read(&bytes, media_type(headers))
            .map_err(|error| Refusal::new(Code::ManifestInvalid, error))?;
        let missing = self.images.missing_in(&repository, &view);
        if !missing.is_empty() {
            return Err(lacking(&missing));
        }
        let document = (digest.clone(), bytes);
        self.images.host_manifest(repository.clone(), document, &view, tag.clone()).await?;
        drop(turn);
        let location = format!("/v2/{repository}/manifests/{digest}");
        let mut answer = Answer::new(StatusCode::CREATED).at(&location).of(&digest);
        if let Some(subject) = &view.subject {
            answer = answer.with(SUBJECT, subject.as_str());
        }
        if let Some(tag) = tag
            && let Err(error) = self.images.name_hosted(repository, tag, digest).await
        {
            let why = sentence(&error);
            tracing::warn!(error = why, "what was pushed does not become an image of this host");
            answer = answer.warning(&format!("no image of the cluster: {why}"));
        }
        Ok(answer.response())
    }

    pub(super) async fn delete_manifest(
        &self,
        repository: RepositoryName,
        named: Named,
    ) -> Result<Response<Body>, Refusal> {
        let gone = match named {
            Named::Tag(tag) => self.images.remove_hosted_tag(repository, tag).await?,
            Named::Digest(digest) => self.images.remove_hosted_manifest(repository, digest).await?,
        };
        if gone { Ok(Answer::new(StatusCode::ACCEPTED).response()) } else { Err(unknown()) }
    }
}

/// A document that says itself what it is.
fn found(digest: Digest, bytes: Vec<u8>) -> Option<Found> {
    let media_type = DocumentView::read(&bytes, None).ok()?.media_type;
    Some(Found { digest, media_type, bytes })
}

/// Without what may follow the type; one that says nothing of documents is none.
fn media_type(headers: &HeaderMap) -> Option<&str> {
    let told = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let told = told.split(';').next().unwrap_or_default().trim();
    let says_nothing = matches!(told, "" | "application/json" | "application/octet-stream");
    (!says_nothing && told.len() <= 255).then_some(told)
}

fn unknown() -> Refusal {
    Refusal::new(Code::ManifestUnknown, "the repository has no such manifest")
}

fn lacking(missing: &[Digest]) -> Refusal {
    let told: Vec<String> = missing.iter().take(TOLD).map(|digest| format!("`{digest}`")).collect();
    let more = match missing.len() - told.len() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let message = format!("it names what the repository does not have: {}{more}", told.join(", "));
    Refusal::new(Code::ManifestBlobUnknown, message)
}
