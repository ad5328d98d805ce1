//! Images made in memory.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};

pub(crate) type Blob = Vec<u8>;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image's blobs, and its manifests with the topmost last.
pub(crate) struct TestImage {
    pub(crate) blobs: Vec<Blob>,
    pub(crate) manifests: Vec<(String, Blob)>,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// One file or folder (content `None`) of a layer.
pub(crate) type Entry<'a> = (&'a str, u32, Option<&'a [u8]>);

pub(crate) fn tar(entries: &[Entry<'_>]) -> Blob {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.map_or(0, |content| content.len() as u64));
        header.set_entry_type(match content {
            Some(_) => tar::EntryType::Regular,
            None => tar::EntryType::Directory,
        });
        archive.append_data(&mut header, name, content.unwrap_or_default()).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Blob {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image of some plain tar layers.
pub(crate) fn image(layers: &[Blob], config: &serde_json::Value) -> TestImage {
    let compressed: Vec<Blob> = layers.iter().map(|layer| gzip(layer)).collect();
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    compose(layers, compressed, kind, config)
}

/// An image whose layers were compressed elsewhere.
pub(crate) fn compose(
    layers: &[Blob],
    compressed: Vec<Blob>,
    kind: &str,
    config: &serde_json::Value,
) -> TestImage {
    let config = json!({
        "architecture": swarm_agent::image::architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>(),
        },
    });
    let config = config.to_string().into_bytes();
    let describe = |kind: &str, blob: &Blob| json!({ "mediaType": kind, "digest": digest(blob), "size": blob.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": describe("application/vnd.oci.image.config.v1+json", &config),
        "layers": compressed.iter().map(|blob| describe(kind, blob)).collect::<Vec<_>>(),
    });
    let manifest = manifest.to_string().into_bytes();
    let mut blobs = compressed;
    blobs.push(config);
    TestImage { blobs, manifests: vec![(MANIFEST.to_owned(), manifest)] }
}

/// The same image behind an index that also names other platforms.
pub(crate) fn indexed(mut image: TestImage, architecture: &str) -> TestImage {
    let (kind, manifest) = image.manifests[0].clone();
    let other = digest(b"another platform's");
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            { "mediaType": kind, "digest": other, "size": 1,
              "platform": { "os": "linux", "architecture": "mips" } },
            { "mediaType": kind, "digest": digest(&manifest), "size": manifest.len(),
              "platform": { "os": "linux", "architecture": architecture } },
        ],
    });
    image.manifests.push((INDEX.to_owned(), index.to_string().into_bytes()));
    image
}

/// A small system: busybox under some names.
pub(crate) fn busybox() -> Blob {
    let program = std::fs::read("/bin/busybox").expect("needs busybox (Debian: busybox-static)");
    let program = program.as_slice();
    let mut archive = tar::Builder::new(Vec::new());
    let folders = tar(&[
        ("bin/", 0o755, None),
        ("tmp/", 0o1777, None),
        ("etc/", 0o755, None),
        ("code/", 0o755, None),
        ("bin/busybox", 0o755, Some(program)),
        ("etc/passwd", 0o644, Some(b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n")),
        ("code/app", 0o644, Some(b"version one\n")),
    ]);
    for entry in tar::Archive::new(folders.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (mut header, path) = (entry.header().clone(), entry.path().unwrap().into_owned());
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        archive.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    for name in [
        "sh", "sleep", "cat", "echo", "hostname", "id", "ls", "env", "true", "wget", "seq", "stty",
        "wc",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        archive.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    archive.into_inner().unwrap()
}
