//! What a finished image says of itself: dates, layers, manifest.

use serde_json::json;
use swarm_dockerfile::Image;
use swarm_proto::id::{Digest, Timestamp};

use super::BuildError;
use crate::image::LayerBlob;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// When each line of a history came to be: with the layer that was made last. An image whose layers all come from
/// earlier builds is so the same image again.
#[derive(Debug)]
pub(super) struct Dates {
    /// What every date is, where the client says so.
    fixed: Option<u64>,
    last: Option<String>,
    /// For each line of the history.
    lines: Vec<Option<String>>,
}

impl Dates {
    pub(super) fn begin(base: &Image, epoch: Option<u64>) -> Self {
        let last = epoch.map_or_else(|| base.created.clone(), |epoch| Some(date(epoch)));
        let lines = base.history.iter().map(|line| line.created.clone()).collect();
        Self { fixed: epoch, last, lines }
    }

    /// A layer was made, now or by an earlier build.
    pub(super) fn layer(&mut self, made_at: Timestamp) {
        self.last = Some(date(self.fixed.unwrap_or(made_at.0 / 1000)));
    }

    /// The history has grown.
    pub(super) fn told(&mut self, image: &Image) {
        self.lines.resize(image.history.len(), self.last.clone());
    }

    /// Fills dates in.
    pub(super) fn fill(self, image: &mut Image) {
        for (line, date) in image.history.iter_mut().zip(self.lines) {
            line.created = date;
        }
        image.created = self.last;
    }
}

/// As RFC 3339 has it, in UTC.
fn date(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The bytes of an image's configuration and manifest.
pub(super) fn documents(
    mut image: Image,
    layers: &[LayerBlob],
) -> Result<(Vec<u8>, Vec<u8>), BuildError> {
    image.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let failed = |what| move |source| BuildError::Description { what, source };
    let config = serde_json::to_vec(&image).map_err(failed("configuration"))?;
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            json!({ "mediaType": layer.media_type, "digest": layer.digest.to_string(), "size": layer.size })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": CONFIG,
            "digest": Digest::of([config.as_slice()]).to_string(),
            "size": config.len(),
        },
        "layers": layers,
    });
    let manifest = serde_json::to_vec(&manifest).map_err(failed("manifest"))?;
    Ok((config, manifest))
}
