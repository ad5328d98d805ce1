use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::{full_name, is_default};
use crate::id::{Digest, ParseIdError};

/// Whether the content of a file is to be kept from people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentKind {
    /// It is: nothing shows it but the containers that were given it.
    Secret,
    /// It is not.
    Config,
}

impl ContentKind {
    /// The most bytes that a content of this kind may have, as Docker Swarm has it.
    pub const fn most_bytes(self) -> u64 {
        match self {
            Self::Secret => 512_000,
            Self::Config => 1_024_000,
        }
    }

    /// Its name: `secret` or `config`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }
}

impl fmt::Display for ContentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ContentKind {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = [Self::Secret, Self::Config].into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| ParseIdError { kind: "kind of content", text: text.to_owned() })
    }
}

/// A content by what is in it: the same bytes have the same identity, whoever gave them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentId {
    /// A secret's bytes are never those of a config, even when they are the same.
    pub kind: ContentKind,
    /// SHA-256 of the bytes.
    pub digest: Digest,
}

impl ContentId {
    /// The identity of these bytes.
    pub fn of(kind: ContentKind, bytes: &[u8]) -> Self {
        Self { kind, digest: Digest::of([bytes]) }
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.digest)
    }
}

/// Bytes of a secret or config. No debug output shows them, they are never serialized with serde, and their memory is
/// overwritten when they go.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ContentBytes(Vec<u8>);

impl ContentBytes {
    /// The bytes of one part, of which each content has as many as it needs: an entry of the log has room for it.
    pub const PART: u64 = 256 << 10;

    /// Wraps bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves, for the few places that need them.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// How many they are.
    pub fn size(&self) -> u64 {
        self.0.len() as u64
    }

    /// The bytes in parts, of which there is at least one.
    pub fn parts(&self) -> impl Iterator<Item = Self> + '_ {
        let part = usize::try_from(Self::PART).unwrap_or(usize::MAX);
        let empty = self.0.is_empty().then(Self::default);
        empty.into_iter().chain(self.0.chunks(part).map(|bytes| Self(bytes.to_vec())))
    }

    /// Puts parts together.
    pub fn join<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let parts: Vec<&Self> = parts.into_iter().collect();
        // Grown in one go, for what a growing vector leaves behind is not overwritten.
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.0.len()).sum());
        for part in parts {
            bytes.extend_from_slice(&part.0);
        }
        Self(bytes)
    }
}

impl From<Vec<u8>> for ContentBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Drop for ContentBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for ContentBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// A secret or config of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContentSpec {
    /// The full name where the file gives one (`name:`); else `<stack>_<key>`, or the key for an external one.
    pub name: Option<String>,
    /// It is not the stack's own: it was made by `secret create` or `config create`.
    pub external: bool,
    /// What is in it; `None` for an external one, whose name the leader looks up at each deploy.
    pub digest: Option<Digest>,
    /// The user's labels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
}

impl ContentSpec {
    /// Its full name.
    pub fn full_name(&self, stack: &str, key: &str) -> String {
        full_name(self.name.as_deref(), self.external, stack, key)
    }
}

/// A secret or config as a file of a container: read only, in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMount {
    /// Whether it is a secret.
    pub kind: ContentKind,
    /// The key under the stack's `secrets:` or `configs:`.
    pub source: String,
    /// What is in it; `None` only while an external one was not looked up. As part of the spec it makes a changed file
    /// a changed service.
    pub digest: Option<Digest>,
    /// Absolute path in the container.
    pub target: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions, 0 to 0o7777.
    pub mode: u32,
}

impl FileMount {
    /// The permissions where nothing else is said, as Docker Swarm has it.
    pub const MODE: u32 = 0o444;

    /// The content's identity, once it is known.
    pub fn content(&self) -> Option<ContentId> {
        Some(ContentId { kind: self.kind, digest: self.digest.clone()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_output_shows_the_bytes() {
        let bytes = ContentBytes::new(b"hidden".to_vec());
        assert_eq!(format!("{bytes:?}"), "[6 bytes]");
    }

    #[test]
    fn parts_put_together_are_the_whole() {
        for length in [0, 1, ContentBytes::PART, ContentBytes::PART + 1, 1_024_000] {
            let length = usize::try_from(length).unwrap();
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let whole = ContentBytes::new(bytes);
            let parts: Vec<ContentBytes> = whole.parts().collect();
            assert_eq!(parts.len(), length.div_ceil(256 << 10).max(1));
            assert!(parts.iter().all(|part| part.size() <= ContentBytes::PART));
            assert_eq!(ContentBytes::join(&parts), whole);
        }
    }

    #[test]
    fn the_same_bytes_have_the_same_identity() {
        let one = ContentId::of(ContentKind::Secret, b"abc");
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(one.to_string(), format!("secret {digest}"));
        assert_ne!(one, ContentId::of(ContentKind::Config, b"abc"));
        assert_eq!("config".parse(), Ok(ContentKind::Config));
        assert!("Config".parse::<ContentKind>().is_err());
    }

    #[test]
    fn a_name_is_the_files_or_made_of_the_key() {
        let named = ContentSpec { name: Some("n".into()), ..ContentSpec::default() };
        assert_eq!(named.full_name("web", "key"), "n");
        assert_eq!(ContentSpec::default().full_name("web", "key"), "web_key");
        let external = ContentSpec { external: true, ..ContentSpec::default() };
        assert_eq!(external.full_name("web", "key"), "key");
    }
}
