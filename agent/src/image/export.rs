//! Writes images as an archive: an OCI layout in a tar file, with the `manifest.json` by which Docker reads it.
//!
//! Of an image for several platforms only what is on this host is written: its own platform's image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Value, json};
use swarm_proto::id::Digest;

use super::archive::{FULL_NAME, MANIFEST_TYPE, REF_NAME};
use super::claims::Claim;
use super::store::{Record, Store};
use super::{ImageError, Images, Reference};

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// An archive that is ready to be written.
pub struct Export {
    documents: Vec<(&'static str, Vec<u8>)>,
    blobs: BTreeSet<Digest>,
    store: Arc<Store>,
    /// Nothing of it is removed meanwhile.
    _claim: Claim,
}

impl Images {
    /// Prepares an archive of images, each given by name or digest. One given by digest keeps all its names.
    pub fn export(&self, images: &[String]) -> Result<Export, ImageError> {
        let inner = &self.inner;
        let claim = inner.claims.begin();
        let (mut entries, mut docker, mut blobs) = (Vec::new(), Vec::new(), BTreeSet::new());
        for image in images {
            let record = inner.look_up(image)?;
            let names = names(&record, image);
            let (digest, manifest) = inner.manifest_of(&record)?;
            let document = inner.document_here("manifest", &digest)?;
            let layers: Vec<Digest> = manifest.layers.into_iter().map(|one| one.digest).collect();
            for blob in layers.iter().chain([&digest, &manifest.config.digest]) {
                claim.add(blob);
                blobs.insert(blob.clone());
            }
            entries.extend(layout_entries(&digest, &document, &names));
            docker.push(json!({
                "Config": path(&manifest.config.digest),
                "RepoTags": names,
                "Layers": layers.iter().map(path).collect::<Vec<_>>(),
            }));
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries });
        let documents = vec![
            ("oci-layout", LAYOUT.as_bytes().to_vec()),
            ("index.json", index.to_string().into_bytes()),
            ("manifest.json", Value::from(docker).to_string().into_bytes()),
        ];
        Ok(Export { documents, blobs, store: Arc::clone(&inner.store), _claim: claim })
    }
}

impl Export {
    /// Writes the archive; the same images are the same bytes.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        for (name, bytes) in &self.documents {
            tar.append_data(&mut header(bytes.len() as u64), name, bytes.as_slice())?;
        }
        for digest in &self.blobs {
            let file = File::open(self.store.blob(digest))?;
            let size = file.metadata()?.len();
            tar.append_data(&mut header(size), path(digest), file)?;
        }
        tar.into_inner()?.flush()
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The names under which an image is written: the one that it was asked for by, or all.
fn names(record: &Record, image: &str) -> Vec<String> {
    let asked = image.parse().ok().map(|reference: Reference| reference.to_string());
    let asked = asked.filter(|name| record.references.contains_key(name));
    asked.map_or_else(|| record.references.keys().cloned().collect(), |name| vec![name])
}

/// One entry for each name, as Docker writes them.
fn layout_entries(digest: &Digest, document: &[u8], names: &[String]) -> Vec<Value> {
    let parsed: Value = serde_json::from_slice(document).unwrap_or_default();
    let media_type = parsed.get("mediaType").and_then(Value::as_str).unwrap_or(MANIFEST_TYPE);
    let entry = |annotations: BTreeMap<&str, &str>| {
        json!({
            "mediaType": media_type,
            "digest": digest.as_str(),
            "size": document.len(),
            "annotations": annotations,
        })
    };
    if names.is_empty() {
        return vec![entry(BTreeMap::new())];
    }
    let annotated = names.iter().map(|name| {
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry([(FULL_NAME, name.as_str()), (REF_NAME, tag)].into())
    });
    annotated.collect()
}
