//! Blobs of repositories: given out whole or in parts, and taken away.

use std::io::SeekFrom;

use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use swarm_proto::id::Digest;
use tokio::io::AsyncSeekExt;

use super::RegistryServer;
use super::answer::Answer;
use super::body::{self, Body};
use super::elsewhere::Held;
use super::range::{self, Part, Wanted};
use super::refusal::{Code, Refusal};
use crate::image::RepositoryName;

const MEDIA_TYPE: &str = "application/octet-stream";

/// Where a blob comes from.
enum Origin {
    Here,
    Elsewhere(Held),
}

/// What somebody wants of a blob.
pub(super) struct Request<'a> {
    /// Its `Range` header.
    pub(super) range: Option<&'a str>,
    /// Nothing of the blob itself.
    pub(super) is_head: bool,
    /// They may see what a registry gave to a host.
    pub(super) all: bool,
}

impl RegistryServer {
    pub(super) async fn get_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        request: Request<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let found = self.find_blob(repository, digest, request.all);
        let (size, origin) = found.ok_or_else(unknown)?;
        let (status, part) = match range::wanted(request.range, size) {
            Wanted::All => (StatusCode::OK, Part { from: 0, length: size }),
            Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
            Wanted::Nothing => return Err(outside(size)),
        };
        let body = match origin {
            _ if request.is_head => None,
            Origin::Here => Some(self.read_blob(digest, part).await?),
            Origin::Elsewhere(held) => {
                let stream = self.elsewhere.blob(digest, &held, part).await;
                Some(body::stream(stream.ok_or_else(unknown)?))
            }
        };
        let answer = Answer::new(status)
            .of(digest)
            .with(ACCEPT_RANGES, "bytes")
            .with(ETAG, &format!("\"{digest}\""));
        let answer = if status == StatusCode::PARTIAL_CONTENT {
            let last = part.from + part.length - 1;
            answer.with(CONTENT_RANGE, &format!("bytes {}-{last}/{size}", part.from))
        } else {
            answer
        };
        Ok(answer.body((MEDIA_TYPE, part.length), body).response())
    }

    fn find_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        all: bool,
    ) -> Option<(u64, Origin)> {
        if let Some(blob) = self.images.hosted_blob(repository, digest) {
            return Some((blob.size, Origin::Here));
        }
        if self.images.is_part_of(repository, digest, all) {
            return Some((self.images.blob_size(digest)?, Origin::Here));
        }
        let held = self.elsewhere.held(repository, digest, all)?;
        Some((held.size?, Origin::Elsewhere(held)))
    }

    async fn read_blob(&self, digest: &Digest, part: Part) -> Result<Body, Refusal> {
        let mut file =
            tokio::fs::File::from_std(self.images.open_blob(digest).ok_or_else(unknown)?);
        let failed =
            |error| Refusal::new(Code::Unknown, format!("cannot read `{digest}`: {error}"));
        file.seek(SeekFrom::Start(part.from)).await.map_err(failed)?;
        Ok(body::file(file, part.length))
    }

    pub(super) async fn delete_blob(
        &self,
        repository: RepositoryName,
        digest: Digest,
    ) -> Result<Response<Body>, Refusal> {
        if !self.images.remove_hosted_blob(repository, digest).await? {
            return Err(unknown());
        }
        Ok(Answer::new(StatusCode::ACCEPTED).response())
    }
}

fn unknown() -> Refusal {
    Refusal::new(Code::BlobUnknown, "the repository has no such blob")
}

fn outside(size: u64) -> Refusal {
    let name: HeaderName = CONTENT_RANGE;
    let refusal = Refusal::new(Code::SizeInvalid, format!("it has {size} bytes"))
        .with_status(StatusCode::RANGE_NOT_SATISFIABLE);
    match HeaderValue::from_str(&format!("bytes */{size}")) {
        Ok(value) => refusal.with_header(name, value),
        Err(_) => refusal,
    }
}
