//! Image names, normalised as Docker does: `redis` is `docker.io/library/redis:latest`.

use std::fmt;
use std::str::FromStr;

use swarm_proto::id::Digest;

/// The registry that names without one belong to.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The folder of the default registry's official images.
const OFFICIAL: &str = "library";
/// The tag of a name without tag and digest.
const DEFAULT_TAG: &str = "latest";
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image name: {reason}")]
pub struct ParseReferenceError {
    text: String,
    reason: &'static str,
}

/// A whole image name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `host` or `host:port`; Docker Hub is `docker.io`.
    pub registry: String,
    /// `library/redis`
    pub repository: String,
    /// A movable name; absent only where a digest is given.
    pub tag: Option<String>,
    /// The content.
    pub digest: Option<Digest>,
}

impl Reference {
    /// The same name, pinned to one content.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl Reference {
    /// A name with the content that it is pinned to, whether the text says that or not. Without a tag it has none.
    pub fn parse_pinned(text: &str, digest: &Digest) -> Result<Self, ParseReferenceError> {
        match text.split_once('@') {
            Some(_) => text.parse(),
            None => format!("{text}@{digest}").parse(),
        }
    }

    /// Whether the name has no registry's host, or that of the one that such names belong to.
    pub fn is_of_default_registry(&self) -> bool {
        self.registry == DEFAULT_REGISTRY
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason| ParseReferenceError { text: text.to_owned(), reason };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let digest = digest.map(str::parse::<Digest>).transpose();
        let digest = digest.map_err(|_| fail("the digest is not `sha256:` and 64 hex digits"))?;
        let (name, tag) = split_tag(name);
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(fail("the tag has a character that tags cannot have"));
        }
        let (registry, path) = split_registry(name);
        if !is_registry(registry) {
            return Err(fail("the registry is not a host name with an optional port"));
        }
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if official { format!("{OFFICIAL}/{path}") } else { path.to_owned() };
        if repository.len() > LONGEST_NAME {
            return Err(fail("the name is longer than 255 characters"));
        }
        if path.is_empty() || !repository.split('/').all(is_component) {
            return Err(fail("names are lower-case letters and digits, parted by `.`, `_`, `-`"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// A colon after the last slash begins a tag; one before it belongs to a port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => (before, Some(tag)),
        _ => (name, None),
    }
}

fn split_registry(name: &str) -> (&str, &str) {
    let Some((first, rest)) = name.split_once('/') else {
        return (DEFAULT_REGISTRY, name);
    };
    let is_host =
        first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase();
    match first {
        "index.docker.io" | "registry-1.docker.io" => (DEFAULT_REGISTRY, rest),
        _ if is_host => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    let host_ok = !host.is_empty()
        && host.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'.' || c == b'-')
        && !host.starts_with(['.', '-']);
    host_ok && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_tag(tag: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
    !tag.is_empty()
        && tag.len() <= LONGEST_TAG
        && tag.bytes().all(allowed)
        && !tag.starts_with(['.', '-'])
}

/// Alphanumeric runs parted by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let parted = |gap: &str| {
        matches!(gap, "." | "_" | "__") || (!gap.is_empty() && gap.bytes().all(|c| c == b'-'))
    };
    if !component.starts_with(is_word) || !component.ends_with(is_word) {
        return false;
    }
    component.split(is_word).filter(|gap| !gap.is_empty()).all(parted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "51d9b231d5129e3ffc267c9d455c49d789bf3167b611a07ab6e4b3304c96b0e7";

    #[test]
    fn names_become_whole() {
        let pinned = format!("redis@sha256:{HEX}");
        let whole = format!("docker.io/library/redis@sha256:{HEX}");
        let both = format!("a.example:5000/x/y:1@sha256:{HEX}");
        let table = [
            ("redis", "docker.io/library/redis:latest"),
            ("redis:alpine", "docker.io/library/redis:alpine"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest"),
            ("docker.io/redis", "docker.io/library/redis:latest"),
            ("index.docker.io/library/redis:7", "docker.io/library/redis:7"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:2", "localhost:5000/app:2"),
            ("10.0.0.1:5000/a/b/c", "10.0.0.1:5000/a/b/c:latest"),
            ("ghcr.example/o/i:V1.2_x-3", "ghcr.example/o/i:V1.2_x-3"),
            ("a__b/c---d", "docker.io/a__b/c---d:latest"),
            (pinned.as_str(), whole.as_str()),
            (both.as_str(), both.as_str()),
        ];
        for (text, expected) in table {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), expected, "{text}");
            let again: Reference = expected.parse().unwrap();
            assert_eq!(again, reference, "{text} read again");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(300);
        let table = [
            "",
            ":",
            "Redis",
            "redis:",
            "redis:a b",
            "redis:-x",
            "a//b",
            "/redis",
            "redis/",
            "a...b",
            "a___b",
            "-a",
            "a-",
            "redis@sha256:12",
            "host:0/x",
            "host:99999/x",
            "host:5000/",
            "../x",
            "a/../b",
            long.as_str(),
            "redis@md5:x",
            "r\u{e9}dis",
        ];
        for text in table {
            assert!(text.parse::<Reference>().is_err(), "`{text}` was taken");
        }
    }
}
