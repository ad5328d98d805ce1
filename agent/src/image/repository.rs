//! What a repository of this host's registry is: its name, tags, manifests and blobs. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use swarm_proto::id::{Digest, Timestamp};

/// The distribution specification's bound for names is 255 with the registry's host, which is not known here.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;
/// The form of a document that says no media type of itself and came without one.
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Why a text is no name of a repository, or no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {rule}")]
pub struct ParseNameError {
    text: String,
    what: &'static str,
    rule: &'static str,
}

/// `team/app`, by the distribution specification: words of `[a-z0-9]+([._-]…[a-z0-9]+)*`, parted by slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// The whole.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RepositoryName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= LONGEST_NAME && text.split('/').all(is_component) {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseNameError {
            text: shortened(text),
            what: "a repository's name",
            rule: "lower-case letters and digits, parted by `.`, `_`, `-` and `/`, at most 255",
        })
    }
}

/// Alphanumeric runs parted by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let parted = |gap: &str| matches!(gap, "." | "_" | "__") || gap.bytes().all(|c| c == b'-');
    component.starts_with(is_word)
        && component.ends_with(is_word)
        && component.split(is_word).all(parted)
}

/// `1.2-rc`, by the distribution specification: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The whole.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Tag {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
        let is_tag = !text.is_empty()
            && text.len() <= LONGEST_TAG
            && text.bytes().all(allowed)
            && !text.starts_with(['.', '-']);
        if is_tag {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseNameError {
            text: shortened(text),
            what: "a tag",
            rule: "letters, digits, `_`, `.`, `-`, beginning with none of the last two, at most 128",
        })
    }
}

/// What a stranger sent is not told back at any length.
fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_NAME).collect()
}

/// A manifest or index that was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedManifest {
    /// With which it was pushed, and is given out.
    pub media_type: String,
    /// Its bytes.
    pub size: u64,
    /// What it says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// What it names.
    #[serde(default)]
    pub content: BTreeSet<Digest>,
    /// When it came.
    pub at: Timestamp,
}

/// What a tag stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedTag {
    /// A manifest of the repository.
    pub digest: Digest,
    /// This push gave the name to an image of the host, which loses it with the tag.
    #[serde(default)]
    pub names_image: bool,
}

/// One repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Repository {
    /// Each with when it came, or when its last manifest went.
    pub(super) blobs: BTreeMap<Digest, Timestamp>,
    pub(super) manifests: BTreeMap<Digest, HostedManifest>,
    pub(super) tags: BTreeMap<Tag, HostedTag>,
}

impl Repository {
    pub(super) fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.manifests.is_empty() && self.tags.is_empty()
    }

    /// All content that must stay for it.
    pub(super) fn content(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.keys().chain(self.manifests.keys())
    }

    /// Blobs that no manifest has named since then.
    pub(super) fn unnamed_since(&self, since: Timestamp) -> Vec<Digest> {
        let old = self.blobs.iter().filter(|(_, at)| **at <= since).map(|(digest, _)| digest);
        old.filter(|digest| !self.names(digest)).cloned().collect()
    }

    /// Whether a manifest names it.
    pub(super) fn names(&self, digest: &Digest) -> bool {
        self.manifests.values().any(|manifest| manifest.content.contains(digest))
    }
}

/// Another document, or a blob, that a document names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its content.
    pub digest: Digest,
    /// Its bytes, as the document says.
    pub size: u64,
}

/// What a manifest or index says of itself and of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentView {
    /// Its own, or the one of its kind.
    pub media_type: String,
    /// What must be in the repository before: configuration and layers. Layers that are had from elsewhere are not among
    /// them.
    pub blobs: Vec<Part>,
    /// Documents that an index names.
    pub manifests: Vec<Part>,
    /// What it says something about.
    pub subject: Option<Digest>,
    /// What kind of artifact it is; an image's configuration says it where nothing else does.
    pub artifact_type: Option<String>,
    /// As they are written.
    pub annotations: Option<Value>,
}

/// Why a document is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// It is not JSON of that form.
    #[error("it is no manifest: {0}")]
    Form(String),
    /// It is JSON, but neither a manifest nor an index.
    #[error("it is neither an image manifest nor an index of them")]
    Kind,
    /// It came as something else than it says that it is.
    #[error("it says that it is `{own}`, and came as `{told}`")]
    MediaType {
        /// What it says itself.
        own: String,
        /// With what it came.
        told: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Loose {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<LoosePart>,
    layers: Option<Vec<LoosePart>>,
    manifests: Option<Vec<LoosePart>>,
    subject: Option<LoosePart>,
    annotations: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoosePart {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    size: u64,
}

impl LoosePart {
    /// Layers that registries do not hold.
    fn is_elsewhere(&self) -> bool {
        self.media_type.contains("nondistributable") || self.media_type.contains(".foreign.")
    }

    fn part(&self) -> Part {
        Part { digest: self.digest.clone(), size: self.size }
    }
}

impl DocumentView {
    /// Reads a document that came with a media type, perhaps.
    pub fn read(bytes: &[u8], told: Option<&str>) -> Result<Self, ViewError> {
        let loose: Result<Loose, _> = serde_json::from_slice(bytes);
        let loose = loose.map_err(|error| ViewError::Form(error.to_string()))?;
        let is_known = loose.schema_version.is_none_or(|version| version == 2);
        let is_index = loose.manifests.is_some() && loose.config.is_none();
        let is_manifest = loose.manifests.is_none() && loose.config.is_some();
        if !is_known || !(is_index || is_manifest) {
            return Err(ViewError::Kind);
        }
        let media_type = match (loose.media_type, told) {
            (Some(own), Some(told)) if own != told => {
                return Err(ViewError::MediaType { own, told: told.to_owned() });
            }
            (Some(own), _) => own,
            (None, Some(told)) => told.to_owned(),
            (None, None) if is_index => "application/vnd.oci.image.index.v1+json".to_owned(),
            (None, None) => MANIFEST_TYPE.to_owned(),
        };
        let layers = loose.layers.iter().flatten().filter(|layer| !layer.is_elsewhere());
        let written = loose.artifact_type.filter(|kind| !kind.is_empty());
        Ok(Self {
            media_type,
            blobs: loose.config.iter().chain(layers).map(LoosePart::part).collect(),
            manifests: loose.manifests.iter().flatten().map(LoosePart::part).collect(),
            subject: loose.subject.map(|subject| subject.digest),
            artifact_type: written.or(loose.config.map(|config| config.media_type)),
            annotations: loose.annotations.filter(Value::is_object),
        })
    }

    /// All that it names.
    pub fn content(&self) -> BTreeSet<&Digest> {
        self.blobs.iter().chain(&self.manifests).map(|part| &part.digest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_specification() {
        let long = "a".repeat(256);
        for name in ["app", "team/app", "a.b/c_d/e__f/g---h", "0/1", "library/redis"] {
            assert!(name.parse::<RepositoryName>().is_ok(), "{name}");
        }
        let wrong =
            ["", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "-a", "a-", "..", "a/../b", &long];
        for name in wrong {
            assert!(name.parse::<RepositoryName>().is_err(), "{name}");
        }
        let longest = "a".repeat(128);
        for tag in ["1", "V1.2_x-3", "_", &longest] {
            assert!(tag.parse::<Tag>().is_ok(), "{tag}");
        }
        for tag in ["", ".", "..", "-x", ".x", "a/b", "a b", "a:b", "é", &long] {
            assert!(tag.parse::<Tag>().is_err(), "{tag}");
        }
    }

    #[test]
    fn documents_say_what_they_need() {
        let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let text = serde_json::json!({
            "schemaVersion": 2,
            "config": { "mediaType": "application/vnd.x", "digest": digest("a"), "size": 2 },
            "layers": [
                { "mediaType": "x", "digest": digest("b"), "size": 3 },
                {
                    "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                    "digest": digest("c"),
                },
            ],
            "subject": { "mediaType": "x", "digest": digest("d"), "size": 4 },
            "annotations": { "k": "v" },
        })
        .to_string();
        let view = DocumentView::read(text.as_bytes(), None).unwrap();
        let blobs: Vec<_> =
            view.blobs.iter().map(|part| (part.digest.to_string(), part.size)).collect();
        assert_eq!(blobs, [(digest("a"), 2), (digest("b"), 3)]);
        assert_eq!(view.media_type, MANIFEST_TYPE);
        assert_eq!(view.artifact_type.as_deref(), Some("application/vnd.x"));
        assert_eq!(view.subject.unwrap().to_string(), digest("d"));
        let index = r#"{"schemaVersion":2,"mediaType":"i","artifactType":"t","manifests":[]}"#;
        let view = DocumentView::read(index.as_bytes(), Some("i")).unwrap();
        assert_eq!((view.media_type.as_str(), view.artifact_type.as_deref()), ("i", Some("t")));
        let error = DocumentView::read(index.as_bytes(), Some("m")).unwrap_err();
        assert_eq!(error.to_string(), "it says that it is `i`, and came as `m`");
        for text in ["", "[]", "{}", r#"{"schemaVersion":1,"manifests":[]}"#, r#"{"config":1}"#] {
            assert!(DocumentView::read(text.as_bytes(), None).is_err(), "{text}");
        }
    }
}
