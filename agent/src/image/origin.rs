//! Where the parts of one image come from: other hosts first, then the registry.

use std::sync::Arc;

use swarm_proto::id::Digest;
use tokio::sync::Semaphore;

use super::manifest::Descriptor;
use super::registry::Source;
use super::sharing::{Copies, take_turn};
use super::store::Store;
use super::{ImageError, Rate, pull};

/// The registry of an image.
pub(super) enum Registry {
    /// It can be asked.
    Source(Box<Source>),
    /// The connection to it cannot be prepared.
    Unready(ImageError),
    /// It is never asked: all parts must be here.
    None,
}

/// See the module.
pub(super) struct Origins {
    /// The whole name, for errors.
    pub(super) reference: String,
    pub(super) copies: Copies,
    pub(super) registry: Registry,
}

impl Origins {
    /// All parts must be here already.
    pub(super) fn here(reference: String) -> Self {
        Self { reference, copies: Copies::default(), registry: Registry::None }
    }

    /// A manifest or index; the caller compares its digest.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.copies.document(digest).await {
            return Ok(bytes);
        }
        let source = self.registry("manifest", digest)?;
        source.manifest(digest).await.map_err(|error| self.with_copies(error))
    }

    /// Brings a blob into the store, in its turn among the downloads.
    pub(super) async fn blob(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        turns: &Semaphore,
        rate: &Arc<Rate>,
    ) -> Result<(), ImageError> {
        let digest = &descriptor.digest;
        if store.blob(digest).exists() || self.copies.blob(store, descriptor, turns).await? {
            return Ok(());
        }
        let source = self.registry("blob", digest)?;
        let _turn = take_turn(turns).await?;
        let pulled = pull::blob(store, source, descriptor, rate).await;
        pulled.map_err(|error| self.with_copies(error))
    }

    fn registry(&self, what: &'static str, digest: &Digest) -> Result<&Source, ImageError> {
        match &self.registry {
            Registry::Source(source) => Ok(source),
            Registry::Unready(error) => Err(self.unavailable(error)),
            Registry::None => Err(ImageError::Invalid {
                what,
                digest: digest.to_string(),
                reason: "it is missing".to_owned(),
            }),
        }
    }

    /// Hosts that hold the image may give it later, whatever a registry says.
    fn with_copies(&self, error: ImageError) -> ImageError {
        let of_registry = error.is_unknown() || matches!(error, ImageError::Unavailable { .. });
        if of_registry && !self.copies.failures().is_empty() {
            return self.unavailable(&error);
        }
        error
    }

    fn unavailable(&self, error: &ImageError) -> ImageError {
        let failures = self.copies.failures();
        let parts = [failures, error.detail()];
        let said: Vec<&str> =
            parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let detail = said.join("; ");
        ImageError::Unavailable { reference: self.reference.clone(), detail }
    }
}
