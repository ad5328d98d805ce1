//! Sends blobs and manifests to a registry itself, never to a mirror.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use prost::bytes::Bytes;
use reqwest::Body;
use swarm_proto::id::Digest;
use tokio::time::timeout;

use super::answer::{Failure, innermost};
use super::conversation::{Conversation, Right};
use super::keyring::Keyring;
use super::registry::Endpoint;
use super::{ImageError, Reference, Registries};

/// A registry that takes no byte and answers nothing for so long is given up. It looks at what it was sent first.
const PATIENCE: Duration = Duration::from_mins(2);
/// Bytes that are read from the disk at once.
const CHUNK: usize = 256 << 10;

/// Where an image goes.
pub(super) struct Destination {
    target: Reference,
    endpoint: Endpoint,
    conversation: Conversation,
}

impl Destination {
    /// Prepares the connection. `target` has a tag.
    pub(super) async fn new(
        registries: &Registries,
        target: &Reference,
        keyring: &Keyring,
    ) -> Result<Self, ImageError> {
        let not_pushed = |detail| ImageError::NotPushed { reference: target.to_string(), detail };
        let registry = &target.registry;
        if registries.mirrors_only.contains(registry) {
            return Err(not_pushed(format!(
                "this host asks `{registry}` itself for nothing, only its mirrors (`mirrors_only`)"
            )));
        }
        let endpoint = registries.own_endpoint(registry);
        // No time for an answer as a whole: it counts from a request's beginning, and large blobs take theirs.
        let client = registries.client(&endpoint).map_err(not_pushed)?.build();
        let client = client.map_err(|error| not_pushed(innermost(&error)))?;
        let about = (registry.as_str(), target.repository.as_str());
        let conversation =
            Conversation::new(client, &endpoint, about, Right::Push).map_err(not_pushed)?;
        conversation.ask_as(keyring.find(registry)).await;
        Ok(Self { target: target.clone(), endpoint, conversation })
    }

    pub(super) fn target(&self) -> &Reference {
        &self.target
    }

    /// Shows oneself, so that a refusal is known before anything is sent.
    pub(super) async fn begin(&self) -> Result<(), Failure> {
        bounded(self.conversation.begin()).await
    }

    /// Whether the registry has a blob in this repository.
    pub(super) async fn has(&self, digest: &Digest) -> Result<bool, Failure> {
        bounded(self.conversation.has(digest)).await
    }

    /// Whether the registry takes a blob from another of its repositories.
    pub(super) async fn mount(&self, digest: &Digest, repository: &str) -> bool {
        // Whatever is wrong is said of the upload that follows.
        bounded(self.conversation.mount(digest, repository)).await.unwrap_or(false)
    }

    /// Sends a blob. `sent` counts its bytes as they go.
    pub(super) async fn send(
        &self,
        digest: &Digest,
        file: File,
        size: u64,
        sent: &Arc<AtomicU64>,
    ) -> Result<(), Failure> {
        sent.store(0, Ordering::Relaxed);
        let bytes = Body::wrap_stream(chunks(file, Arc::clone(sent)));
        while_going(self.conversation.send_blob(digest, size, bytes), sent).await
    }

    /// Names what was sent. Gives the digest that the registry has under the name then.
    pub(super) async fn finish(
        &self,
        manifest: Vec<u8>,
        media_type: &str,
    ) -> Result<Digest, Failure> {
        let tag = self.target.tag.as_deref().unwrap_or_default();
        bounded(self.conversation.send_manifest(tag, media_type, manifest)).await?;
        bounded(self.conversation.digest(tag)).await
    }

    /// What a failure is to who pushes.
    pub(super) fn conclude(&self, failure: Failure) -> ImageError {
        let (reference, registry) = (self.target.to_string(), self.endpoint.to_string());
        let detail = match failure {
            Failure::Denied => return ImageError::PushDenied { reference, registry },
            Failure::NotFound => format!("{registry} has no such repository, and makes none"),
            Failure::Transient(reason) => format!("{registry} cannot be reached: {reason}"),
            Failure::Broken(reason) => format!("{registry} refuses it: {reason}"),
        };
        ImageError::NotPushed { reference, detail }
    }
}

/// A request that sends little.
async fn bounded<T>(request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    while_going(request, &AtomicU64::new(0)).await
}

/// A request, as long as bytes go or an answer is not overdue.
async fn while_going<T>(
    request: impl Future<Output = Result<T, Failure>>,
    sent: &AtomicU64,
) -> Result<T, Failure> {
    let mut request = std::pin::pin!(request);
    let mut before = 0;
    loop {
        if let Ok(answer) = timeout(PATIENCE, &mut request).await {
            return answer;
        }
        let now = sent.load(Ordering::Relaxed);
        if now == before {
            let seconds = PATIENCE.as_secs();
            return Err(Failure::Transient(format!("nothing moved for {seconds} s")));
        }
        before = now;
    }
}

/// A file's bytes, a few at a time.
fn chunks(
    file: File,
    sent: Arc<AtomicU64>,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    unfold(Some(file), move |file| {
        let sent = Arc::clone(&sent);
        async move {
            let mut file = file?;
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = Vec::with_capacity(CHUNK);
                let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
                read.map(|_| (file, chunk))
            });
            match read.await.map_err(std::io::Error::other).and_then(|read| read) {
                Ok((_, chunk)) if chunk.is_empty() => None,
                Ok((file, chunk)) => {
                    sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    Some((Ok(Bytes::from(chunk)), Some(file)))
                }
                Err(error) => Some((Err(error), None)),
            }
        }
    })
}
