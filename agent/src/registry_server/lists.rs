//! Lists: the tags of a repository, all repositories, and what refers to a manifest.

use hyper::header::HeaderName;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use swarm_proto::id::Digest;

use super::RegistryServer;
use super::answer::{Answer, encoded};
use super::body::{self, Body};
use super::manifests::LARGEST;
use super::pagination::{Page, page};
use super::refusal::{Code, Refusal};
use super::route::Query;
use crate::image::{DocumentView, RepositoryName};

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
const FILTER: &str = "artifactType";

impl RegistryServer {
    /// The tags of a repository of this host, with those of the host's images, and what was asked for of others'.
    pub(super) fn list_tags(
        &self,
        repository: &RepositoryName,
        query: &Query,
        (is_head, all): (bool, bool),
    ) -> Result<Response<Body>, Refusal> {
        let hosted = self.images.hosted_tags(repository);
        let mut tags = self.elsewhere.tags(repository, all);
        if hosted.is_none() && tags.is_empty() {
            return Err(Refusal::new(Code::NameUnknown, "this host has no such repository"));
        }
        tags.extend(hosted.unwrap_or_default());
        let tags = tags.iter().map(ToString::to_string).collect();
        let (page, next) = paged(&format!("/v2/{repository}/tags/list"), tags, query)?;
        let content = json!({ "name": repository.as_str(), "tags": page.names });
        let answer = Answer::new(StatusCode::OK).next(next.as_deref());
        Ok(answer.json(&content, is_head).response())
    }

    /// The repositories of this host.
    pub(super) fn list_repositories(
        &self,
        query: &Query,
        is_head: bool,
    ) -> Result<Response<Body>, Refusal> {
        let names = self.images.repositories().iter().map(ToString::to_string).collect();
        let (page, next) = paged("/v2/_catalog", names, query)?;
        let answer = Answer::new(StatusCode::OK).next(next.as_deref());
        Ok(answer.json(&json!({ "repositories": page.names }), is_head).response())
    }

    /// An index of the manifests whose subject this is. Where there is none, it is empty.
    pub(super) async fn list_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        query: &Query,
        is_head: bool,
    ) -> Result<Response<Body>, Refusal> {
        let mut all = self.images.hosted_referrers(repository, subject).unwrap_or_default();
        if let Some(last) = query.get("last") {
            all.retain(|(digest, _)| digest.as_str() > last);
        }
        let wanted = query.get(FILTER);
        let (mut entries, mut size, mut last) = (Vec::new(), 0, None);
        let mut is_more = false;
        for (digest, manifest) in all {
            let Some(bytes) = self.images.stored_document(&digest).await else { continue };
            let entry = descriptor(&digest, &manifest.media_type, &bytes);
            let Some(entry) = entry.filter(|entry| is_wanted(entry, wanted)) else { continue };
            size += entry.to_string().len() + 1;
            if size > LARGEST - 1024 && !entries.is_empty() {
                is_more = true;
                break;
            }
            entries.push(entry);
            last = Some(digest);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries })
            .to_string();
        let filter = wanted.map(|wanted| format!("&{FILTER}={}", encoded(wanted)));
        let next = last.filter(|_| is_more).map(|last| {
            let filter = filter.unwrap_or_default();
            format!("/v2/{repository}/referrers/{subject}?last={last}{filter}")
        });
        let mut answer = Answer::new(StatusCode::OK).next(next.as_deref());
        if wanted.is_some() {
            answer = answer.with(FILTERS, FILTER);
        }
        let length = index.len() as u64;
        let body = (!is_head).then(|| body::full(index));
        Ok(answer.body((INDEX_TYPE, length), body).response())
    }
}

fn is_wanted(entry: &Value, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| entry.get(FILTER).and_then(Value::as_str) == Some(wanted))
}

/// What an index says of a manifest.
fn descriptor(digest: &Digest, media_type: &str, bytes: &[u8]) -> Option<Value> {
    let view = DocumentView::read(bytes, Some(media_type)).ok()?;
    let mut entry = json!({
        "mediaType": media_type,
        "digest": digest.as_str(),
        "size": bytes.len(),
    });
    if let Some(kind) = view.artifact_type {
        entry[FILTER] = kind.into();
    }
    if let Some(annotations) = view.annotations {
        entry["annotations"] = annotations;
    }
    Some(entry)
}

/// A page, and the path of the next one.
pub(super) fn paged(
    path: &str,
    names: Vec<String>,
    query: &Query,
) -> Result<(Page, Option<String>), Refusal> {
    let wrong = || {
        Refusal::new(Code::Unsupported, "`n` is not a number").with_status(StatusCode::BAD_REQUEST)
    };
    let wanted = query.get("n").map(|n| n.parse::<usize>().map_err(|_| wrong())).transpose()?;
    let page = page(names, wanted, query.get("last"));
    let next = page.next.as_ref().map(|last| {
        let n = wanted.map(|n| format!("n={n}&")).unwrap_or_default();
        format!("{path}?{n}last={}", encoded(last))
    });
    Ok((page, next))
}
