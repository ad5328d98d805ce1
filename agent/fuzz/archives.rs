//! Archives of images, as `docker save` writes them and as OCI layouts, with parts that do not fit each other.

use std::fmt::Write as _;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use swarm_agent::image::{Images, Registries, architecture};
use tar::Header;

use crate::random::Random;
use crate::{documents, layers};

/// Files in a state folder have these names, and digests.
const NAMES: [&str; 1] = ["boot"];
const HEX_DIGITS: usize = 64;

/// What is said of an archive that is not refused.
pub(crate) const WHOLE: &str = "loaded";

/// A new archive.
pub(crate) fn made(random: &mut Random, outside: &str) -> Vec<u8> {
    let layer = layers::made(random, outside);
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": ["x"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let config = perhaps_changed(random, &config);
    let mut files = if random.once_in(2) {
        docker(random, config, layer)
    } else {
        layout(random, config, layer)
    };
    match random.below(8) {
        0 => {
            let at = random.below(files.len());
            files.remove(at);
        }
        1 => {
            let (one, other) = (random.below(files.len()), random.below(files.len()));
            let name = files[one].0.clone();
            files[other].0 = name;
        }
        _ => {}
    }
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        let name = &name.as_bytes()[..name.len().min(old.name.len())];
        old.name[..name.len()].copy_from_slice(name);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        layers::append(&mut archive, &header, &content);
    }
    archive.resize(archive.len() + 1024, 0);
    layers::compressed(random, archive)
}

fn docker(random: &mut Random, config: Vec<u8>, layer: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": ["x:1"], "Layers": ["layer.tar"] }]);
    let manifest = perhaps_changed(random, &manifest);
    [("config.json", config), ("layer.tar", layer), ("manifest.json", manifest)]
        .map(|(name, content)| (name.to_owned(), content))
        .into()
}

fn layout(random: &mut Random, config: Vec<u8>, layer: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let describe =
        |bytes: &[u8]| json!({ "mediaType": "a/b", "digest": digest(bytes), "size": bytes.len() });
    let manifest =
        json!({ "schemaVersion": 2, "config": describe(&config), "layers": [describe(&layer)] });
    let manifest = perhaps_changed(random, &manifest);
    let mut entry = describe(&manifest);
    let mut files = vec![blob(config), blob(layer), blob(manifest)];
    if random.once_in(3) {
        entry["platform"] = json!({ "os": "linux", "architecture": architecture() });
        let index = perhaps_changed(random, &json!({ "schemaVersion": 2, "manifests": [entry] }));
        entry = describe(&index);
        files.push(blob(index));
    }
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "x:1" });
    let index = perhaps_changed(random, &json!({ "schemaVersion": 2, "manifests": [entry] }));
    files.push(("index.json".to_owned(), index));
    files
}

fn blob(bytes: Vec<u8>) -> (String, Vec<u8>) {
    (format!("blobs/{}", digest(&bytes).replace(':', "/")), bytes)
}

fn perhaps_changed(random: &mut Random, document: &Value) -> Vec<u8> {
    let bytes = document.to_string().into_bytes();
    if random.once_in(6) {
        documents::mutated(random, bytes, &[], &documents::PIECES)
    } else {
        bytes
    }
}

fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Loads an archive into a state folder; what came of it, in words. Nothing half done may be left.
pub(crate) fn load(archive: &[u8], folder: &Path) -> Result<String, String> {
    let failed = |error: &dyn std::error::Error| error.to_string();
    let images = Images::open(folder, Registries::default()).map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let loaded = runtime.block_on(images.load(Cursor::new(archive.to_vec()), None));
    // Waits for the work that nobody waits for.
    drop(runtime);
    for place in ["blobs/sha256", "layers", "images"] {
        for entry in fs::read_dir(folder.join(place)).map_err(|error| failed(&error))? {
            let name = entry.map_err(|error| failed(&error))?.file_name();
            let name = name.to_string_lossy();
            let start = name.split('.').next().unwrap_or_default();
            if start.len() != HEX_DIGITS && !NAMES.contains(&start) {
                return Err(format!("`{place}/{name}` was left"));
            }
        }
    }
    Ok(match loaded {
        Ok(_) => WHOLE.to_owned(),
        Err(error) => error.to_string(),
    })
}
