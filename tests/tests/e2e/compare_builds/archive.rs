//! An image out of an archive that `manifest.json` describes, as data.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::Differences;
use super::tree::Tree;

/// What a configuration may say of how an image is run, by Docker's names.
const RUN: [&str; 13] = [
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];
/// What it says of the image itself. Times and history are each builder's own.
const ITSELF: [&str; 4] = ["architecture", "author", "os", "variant"];

/// See the module.
pub(super) struct Image {
    files: BTreeMap<String, String>,
    config: BTreeMap<String, String>,
}

impl Image {
    /// Reads the first image of an archive.
    pub(super) fn read(path: &Path) -> Self {
        let files = files(path);
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let file = |name: &Value| &files[name.as_str().unwrap()];
        let mut tree = Tree::default();
        for layer in manifest[0]["Layers"].as_array().unwrap() {
            let bytes = file(layer).as_slice();
            if bytes.starts_with(&[0x1f, 0x8b]) {
                tree.apply(MultiGzDecoder::new(bytes));
            } else {
                tree.apply(bytes);
            }
        }
        let config: Value = serde_json::from_slice(file(&manifest[0]["Config"])).unwrap();
        Self { files: tree.described(), config: told(&config) }
    }

    /// Where this and another image differ.
    pub(super) fn differences(&self, other: &Self) -> Differences {
        let mut found = Differences::new();
        for (one, other) in [(&self.files, &other.files), (&self.config, &other.config)] {
            for place in one.keys().chain(other.keys()) {
                let said = |said: Option<&String>| said.map_or("-", String::as_str).to_owned();
                let (ours, theirs) = (said(one.get(place)), said(other.get(place)));
                if ours != theirs {
                    found.insert(place.clone(), (ours, theirs));
                }
            }
        }
        found
    }
}

fn files(path: &Path) -> HashMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(File::open(path).unwrap());
    let mut files = HashMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(entry.path().unwrap().to_str().unwrap().to_owned(), bytes);
    }
    files
}

/// What a configuration says, by place. Nothing, and an empty list or text, are the same.
fn told(config: &Value) -> BTreeMap<String, String> {
    let run = RUN.iter().map(|key| (format!("config.{key}"), &config["config"][key]));
    let itself = ITSELF.iter().map(|key| ((*key).to_owned(), &config[key]));
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let all = run.chain(itself).filter(|(_, value)| !empty(value));
    all.map(|(place, value)| (place, value.to_string())).collect()
}
