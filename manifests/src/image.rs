//! Image references: what people write, and the full name.

use std::fmt;

use swarm_proto::id::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";

/// An image by its full name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// `docker.io`, `registry.example:5000`.
    pub registry: String,
    /// `library/redis`.
    pub repository: String,
    /// `alpine`; `latest` where neither tag nor digest was given.
    pub tag: Option<String>,
    /// The content, where it was given.
    pub digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImage {
    /// There is no name.
    #[error("an image needs a name")]
    Empty,
    /// The repository has characters that it must not have.
    #[error(
        "`{0}` is not a valid image name: it is lower-case letters and digits, with single `.`, `_`, `-` and `/` between them"
    )]
    Name(String),
    /// The tag has characters that it must not have.
    #[error("`{0}` is not a valid tag: it is letters, digits, `_`, `.` and `-`, at most 128")]
    Tag(String),
    /// The digest is not one.
    #[error("`{0}` is not a valid digest: it is `sha256:` and 64 hexadecimal digits")]
    Digest(String),
    /// The registry is not a host with an optional port.
    #[error("`{0}` is not a valid registry: it is a host name, with a port where it needs one")]
    Registry(String),
}

impl std::str::FromStr for ImageReference {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| InvalidImage::Digest(digest.to_owned()))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest);
        if !is_registry(&registry) {
            return Err(InvalidImage::Registry(registry));
        }
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) if is_tag(tag) => (path, Some(tag.to_owned())),
            Some((_, tag)) => return Err(InvalidImage::Tag(tag.to_owned())),
            None => (rest, digest.is_none().then(|| "latest".to_owned())),
        };
        if path.is_empty() {
            return Err(InvalidImage::Empty);
        }
        let is_official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if is_official { format!("library/{path}") } else { path.to_owned() };
        if repository.len() > 255 || !path.split('/').all(is_component) {
            return Err(InvalidImage::Name(path.to_owned()));
        }
        Ok(Self { registry, repository, tag, digest })
    }
}

impl ImageReference {
    /// The full name without a digest: `docker.io/library/redis:alpine`.
    pub fn name(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}/{}:{tag}", self.registry, self.repository),
            None => format!("{}/{}", self.registry, self.repository),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// The first part is a registry when it looks like a host: it has a dot or a port, or is `localhost`.
fn split_registry(text: &str) -> (String, &str) {
    match text.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY.to_owned(), rest),
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            (host.to_owned(), rest)
        }
        _ => (DEFAULT_REGISTRY.to_owned(), text),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "443"));
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(is_word)
        && text.len() <= 128
        && bytes.all(|c| is_word(c) || c == b'.' || c == b'-')
}

/// Lower-case letters and digits, between which stand `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = text.split(is_plain).filter(|part| !part.is_empty());
    let good = |part: &str| matches!(part, "." | "_" | "__") || part.bytes().all(|c| c == b'-');
    text.starts_with(is_plain) && text.ends_with(is_plain) && separators.into_iter().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let table = [
            ("redis", "docker.io/library/redis:latest".to_owned()),
            ("redis:alpine", "docker.io/library/redis:alpine".to_owned()),
            ("bitnami/redis:7", "docker.io/bitnami/redis:7".to_owned()),
            ("index.docker.io/library/redis", "docker.io/library/redis:latest".to_owned()),
            ("ghcr.io/a/b/c:1", "ghcr.io/a/b/c:1".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("localhost:5000/x:v1", "localhost:5000/x:v1".to_owned()),
            (&format!("redis@{digest}"), format!("docker.io/library/redis@{digest}")),
            (&format!("redis:7@{digest}"), format!("docker.io/library/redis:7@{digest}")),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<ImageReference>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            ":1",
            "Redis",
            "a//b",
            "a:",
            "a:b:c",
            "-a",
            "a..b",
            "a@sha256:1",
            "a.b:x/c",
            "a b",
            "/a",
            "a/",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
        // As long as it may be with `library/` before it.
        assert!("a".repeat(247).parse::<ImageReference>().is_ok());
        assert!("a".repeat(248).parse::<ImageReference>().is_err());
    }
}
