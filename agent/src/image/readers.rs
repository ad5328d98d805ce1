//! The readers of what strangers send, each on its own: for programs that try them on mutated input.

use std::io::{self, Read};
use std::path::Path;

use swarm_proto::id::Digest;

use super::manifest::{self, Document};
use super::store::sha256;
use super::{ImageConfig, ImageError, architecture, compression, unpack};
use crate::tree;

/// Unpacks a layer, compressed or not, into an empty folder.
pub fn unpack_layer(layer: impl Read + Send + 'static, folder: &Path) -> io::Result<()> {
    unpack::unpack(compression::reader_of(layer)?, tree::open_root(folder)?)
}

/// Reads a manifest, or an index; answers with the blobs that it names for this machine.
pub fn read_manifest(bytes: &[u8]) -> Result<Vec<Digest>, ImageError> {
    let digest = sha256(bytes);
    match manifest::parse(&digest, bytes)? {
        Document::Manifest(manifest) => {
            let parts = [manifest.config].into_iter().chain(manifest.layers);
            Ok(parts.map(|part| part.digest).collect())
        }
        Document::Index(entries) => {
            let chosen = manifest::choose(digest.as_str(), entries, architecture())?;
            Ok(vec![chosen.digest])
        }
    }
}

/// Reads an image's configuration: how to run it, and its layers' uncompressed digests.
pub fn read_config(bytes: &[u8]) -> Result<(ImageConfig, Vec<Digest>), ImageError> {
    manifest::parse_config(&sha256(bytes), bytes)
}
