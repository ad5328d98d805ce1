//! Requests that bring blobs: in one piece, in chunks, or from another repository.

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, RANGE};
use hyper::{Response, StatusCode};
use swarm_proto::id::Digest;

use super::RegistryServer;
use super::answer::Answer;
use super::body::Body;
use super::range::{self, Part};
use super::refusal::{Code, Refusal};
use super::route::{Query, UploadId, digest};
use super::uploads::location;
use crate::image::RepositoryName;

const UPLOAD_NUMBER: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl RegistryServer {
    /// A mount, a blob in one piece, or the beginning of an upload.
    pub(super) async fn begin_upload(
        &self,
        repository: RepositoryName,
        query: &Query,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        if let Some(mounted) = query.get("mount") {
            let mounted = digest(mounted)?;
            // A repository that cannot be is one that has no such blob.
            let from = query.get("from").map(str::parse::<RepositoryName>).transpose();
            let is_there = match from {
                Ok(from) => {
                    self.images.mount_blob(repository.clone(), mounted.clone(), from).await?
                }
                Err(_) => false,
            };
            if is_there {
                return Ok(created(&repository, &mounted));
            }
        }
        let whole = query.get("digest").map(digest).transpose()?;
        self.see_room(headers).await?;
        let id = self.uploads.begin(&repository)?;
        let Some(whole) = whole else {
            return Ok(under_way(StatusCode::ACCEPTED, &repository, &id, 0));
        };
        let done = self.complete(&repository, &id, (None, body), whole).await;
        if done.is_err() {
            // Nobody knows its number.
            let _ = self.uploads.cancel(&repository, &id).await;
        }
        done
    }

    /// One more chunk.
    pub(super) async fn continue_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let part = self.part(repository, id, headers)?;
        self.see_room(headers).await?;
        let length = self.uploads.append((repository, id), part, body).await?;
        Ok(under_way(StatusCode::ACCEPTED, repository, id, length))
    }

    /// Perhaps the last chunk, and the end.
    pub(super) async fn end_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        query: &Query,
        (headers, body): (&HeaderMap, Incoming),
    ) -> Result<Response<Body>, Refusal> {
        let missing = || Refusal::new(Code::DigestInvalid, "the query says no `digest`");
        let whole = digest(query.get("digest").ok_or_else(missing)?)?;
        let part = self.part(repository, id, headers)?;
        self.see_room(headers).await?;
        self.complete(repository, id, (part, body), whole).await
    }

    async fn complete(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        (part, body): (Option<Part>, Incoming),
        whole: Digest,
    ) -> Result<Response<Body>, Refusal> {
        self.uploads.append((repository, id), part, body).await?;
        self.uploads.finish((repository, id), whole.clone()).await?;
        Ok(created(repository, &whole))
    }

    /// How far it is.
    pub(super) fn upload_status(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Response<Body>, Refusal> {
        let length = self.uploads.length(repository, id)?;
        Ok(under_way(StatusCode::NO_CONTENT, repository, id, length))
    }

    pub(super) async fn cancel_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Response<Body>, Refusal> {
        self.uploads.cancel(repository, id).await?;
        Ok(Answer::new(StatusCode::NO_CONTENT).response())
    }

    /// Where a chunk belongs, where it says so. What says that wrongly is out of order, too.
    fn part(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        headers: &HeaderMap,
    ) -> Result<Option<Part>, Refusal> {
        let Some(header) = headers.get(CONTENT_RANGE) else { return Ok(None) };
        let part = header.to_str().ok().and_then(range::chunk);
        let told = length_of(headers);
        match part {
            Some(part) if told.is_none_or(|told| told == part.length) => Ok(Some(part)),
            _ => Err(self.uploads.out_of_order(repository, id)?),
        }
    }

    /// Before anything comes, where it is told how much.
    async fn see_room(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let bytes = length_of(headers).unwrap_or_default();
        Ok(self.images.make_room_for("an upload", bytes).await?)
    }
}

fn length_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn created(repository: &RepositoryName, digest: &Digest) -> Response<Body> {
    let location = format!("/v2/{repository}/blobs/{digest}");
    Answer::new(StatusCode::CREATED).at(&location).of(digest).response()
}

fn under_way(
    status: StatusCode,
    repository: &RepositoryName,
    id: &UploadId,
    length: u64,
) -> Response<Body> {
    Answer::new(status)
        .at(&location(repository, id))
        .with(RANGE, &range::progress(length))
        .with(UPLOAD_NUMBER, id.as_str())
        .response()
}
