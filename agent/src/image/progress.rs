//! How far a pull is, as the disk shows it: whoever asks costs the pull nothing.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::id::Digest;
use swarm_proto::spec::ImageSpec;
use tokio::sync::mpsc;

use super::scattered::arrived;
use super::store::Store;
use super::{Image, ImageError, Images, manifest};

/// Between two words of how far a pull is.
const TELL: Duration = Duration::from_millis(200);

/// How far a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// As it travels.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Bytes that have come.
    pub received: u64,
    /// It is ready to be run.
    pub unpacked: bool,
}

/// How far an image is, for a person.
pub fn so_far(layers: &[LayerProgress]) -> String {
    let sum = |of: fn(&LayerProgress) -> u64| {
        layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(of(layer)))
    };
    let (received, size) = (sum(|layer| layer.received), sum(|layer| layer.size));
    if received < size {
        return format!("its image is on its way: {} of {} MiB", received >> 20, mib(size));
    }
    let unpacked = layers.iter().filter(|layer| layer.unpacked).count();
    format!("its image is unpacked: {unpacked} of {} layers", layers.len())
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

impl Images {
    /// How far an image's layers are, the lowest first; nothing while it is not known which it has.
    pub fn progress(&self, digest: &Digest) -> Option<Vec<LayerProgress>> {
        self.inner.store.progress(digest)
    }

    /// Makes an image ready to run, and tells how far that is as long as somebody listens.
    pub async fn pull(
        &self,
        spec: &ImageSpec,
        steps: mpsc::Sender<Vec<LayerProgress>>,
    ) -> Result<Arc<Image>, ImageError> {
        let mut told = None;
        let pulled = {
            let mut pulling = std::pin::pin!(self.ensure(spec));
            loop {
                tokio::select! {
                    pulled = &mut pulling => break pulled,
                    () = tokio::time::sleep(TELL) => {}
                }
                let now = spec.digest.as_ref().and_then(|digest| self.progress(digest));
                if now != told
                    && let Some(layers) = now.clone()
                {
                    // An error means that nobody listens any more.
                    let _ = steps.send(layers).await;
                }
                told = now;
            }
        };
        if let Ok(image) = &pulled
            && let Some(layers) = self.progress(&image.digest)
        {
            let _ = steps.send(layers).await;
        }
        pulled
    }
}

impl Store {
    fn progress(&self, digest: &Digest) -> Option<Vec<LayerProgress>> {
        let read = |digest: &Digest| {
            self.read_blob(digest).ok_or_else(|| ImageError::NotHere { image: digest.to_string() })
        };
        let (_, manifest) = manifest::own(digest, read).ok()?;
        let config = self.read_blob(&manifest.config.digest);
        let config = config.and_then(|bytes| {
            manifest::parse_config(&manifest.config.digest, &bytes).ok().map(|(_, layers)| layers)
        });
        let layers = manifest.layers.into_iter().enumerate().map(|(at, layer)| {
            let whole = fs::metadata(self.blob(&layer.digest)).map(|file| file.len());
            let received = whole.unwrap_or_else(|_| arrived(&self.partial_blob(&layer.digest)));
            let diff_id = config.as_ref().and_then(|layers| layers.get(at));
            let unpacked = diff_id.is_some_and(|diff_id| self.has_layer(diff_id));
            LayerProgress { digest: layer.digest, size: layer.size, received, unpacked }
        });
        Some(layers.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_on_its_way_is_told_in_words() {
        let layer = |received: u64, unpacked: bool| LayerProgress {
            digest: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
            size: 10 << 20,
            received,
            unpacked,
        };
        let table = [
            (vec![layer(10 << 20, true), layer(3 << 20, false)], "on its way: 13 of 20 MiB"),
            (vec![layer(10 << 20, true), layer(10 << 20, false)], "unpacked: 1 of 2 layers"),
        ];
        for (layers, expected) in table {
            assert!(so_far(&layers).ends_with(expected), "{}", so_far(&layers));
        }
    }
}
