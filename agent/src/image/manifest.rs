//! The parts of manifests, indexes and image configurations that an agent needs.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use swarm_proto::id::Digest;

use super::ImageError;

/// Platforms of an index that are named where this machine's is not among them.
const MOST_NAMED: usize = 32;

/// What an index or manifest points at.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    #[serde(default)]
    pub(super) size: u64,
    pub(super) platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Platform {
    /// Whether it is this machine's.
    pub(super) fn is_this(&self) -> bool {
        self.os == "linux" && self.architecture == architecture()
    }

    fn name(&self) -> String {
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => {
                format!("{}/{}/{variant}", self.os, self.architecture)
            }
            _ => format!("{}/{}", self.os, self.architecture),
        }
    }
}

/// An image for one platform.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What a manifest's bytes turned out to be.
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

#[derive(Deserialize)]
struct Loose {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// Reads a manifest or index. By its parts, for some registries leave the media type out.
pub(super) fn parse(digest: &Digest, bytes: &[u8]) -> Result<Document, ImageError> {
    let invalid = |reason: String| ImageError::Invalid {
        what: "manifest",
        digest: digest.to_string(),
        reason,
    };
    let loose: Loose = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    match loose {
        Loose { manifests: Some(manifests), config: None, .. } => Ok(Document::Index(manifests)),
        Loose { manifests: None, config: Some(config), layers: Some(layers) } => {
            Ok(Document::Manifest(Manifest { config, layers }))
        }
        _ => Err(invalid("it is neither an image nor an index of images".to_owned())),
    }
}

/// The manifest that an index names, which is no index again.
pub(super) fn parse_named(digest: &Digest, bytes: &[u8]) -> Result<Manifest, ImageError> {
    match parse(digest, bytes)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(ImageError::Invalid {
            what: "manifest",
            digest: digest.to_string(),
            reason: "an index inside of an index".to_owned(),
        }),
    }
}

/// The manifest of an image of this host for this machine, by way of an index where there is one, with its digest.
pub(super) fn own(
    digest: &Digest,
    read: impl Fn(&Digest) -> Result<Vec<u8>, ImageError>,
) -> Result<(Digest, Manifest), ImageError> {
    let entries = match parse(digest, &read(digest)?)? {
        Document::Manifest(manifest) => return Ok((digest.clone(), manifest)),
        Document::Index(entries) => entries,
    };
    let chosen = choose(digest.as_str(), entries, architecture())?.digest;
    let manifest = parse_named(&chosen, &read(&chosen)?)?;
    Ok((chosen, manifest))
}

/// This machine's architecture in the words of image indexes.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The image for this machine. Variants count only where an architecture has several (`arm`): the newest first.
pub(super) fn choose(
    reference: &str,
    manifests: Vec<Descriptor>,
    architecture: &str,
) -> Result<Descriptor, ImageError> {
    let fits = |descriptor: &Descriptor| {
        descriptor
            .platform
            .as_ref()
            .is_some_and(|p| p.os == "linux" && p.architecture == architecture)
    };
    let variant = |descriptor: &Descriptor| {
        descriptor.platform.as_ref().and_then(|p| p.variant.clone()).unwrap_or_default()
    };
    let found = manifests
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .filter(|p| p.os != "unknown")
        .map(Platform::name);
    let mut found: Vec<String> = found.take(MOST_NAMED + 1).collect();
    if found.len() > MOST_NAMED {
        "…".clone_into(&mut found[MOST_NAMED]);
    }
    let found = found.join(", ");
    // `max_by_key` takes the last of equals, and the first is the one meant.
    let best = manifests.into_iter().filter(fits).rev().max_by_key(variant);
    best.ok_or_else(|| ImageError::Platform {
        reference: reference.to_owned(),
        platform: format!("linux/{architecture}"),
        found,
    })
}

/// How an image wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// Begins the command line.
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Follows the entry point.
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// `KEY=value`
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// Where the command begins.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Folders that get a volume of their own.
    #[serde(deserialize_with = "keys", serialize_with = "as_keys")]
    pub volumes: Vec<String>,
    /// Sent to stop it.
    #[serde(deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// How its health is looked at.
    pub healthcheck: Option<ImageHealth>,
    /// What a line of a health check is for.
    #[serde(deserialize_with = "null_is_default")]
    pub shell: Vec<String>,
}

/// How an image wants its health to be looked at. Durations are nanoseconds; what is zero is the usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageHealth {
    /// `NONE`, `CMD` and words, or `CMD-SHELL` and a line.
    #[serde(deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// From one check to the next.
    pub interval: i64,
    /// How long one may take.
    pub timeout: i64,
    /// The time in which failures do not count.
    pub start_period: i64,
    /// From one check to the next in that time.
    pub start_interval: i64,
    /// How many failures in a row are too many.
    pub retries: i64,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// `{"/data": {}}`: only the keys say something.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Keys;

    impl<'de> Visitor<'de> for Keys {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object, of which only the keys count")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut keys = Vec::new();
            while let Some((key, IgnoredAny)) = map.next_entry()? {
                keys.push(key);
            }
            Ok(keys)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }
    }

    deserializer.deserialize_any(Keys)
}

fn as_keys<S: Serializer>(keys: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(keys.iter().map(|key| (key, serde_json::Map::new())))
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default, deserialize_with = "null_is_default")]
    config: ImageConfig,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "null_is_default")]
    diff_ids: Vec<Digest>,
}

/// Reads an image configuration: how to run it, and its layers' uncompressed digests.
pub(super) fn parse_config(
    digest: &Digest,
    bytes: &[u8],
) -> Result<(ImageConfig, Vec<Digest>), ImageError> {
    let file: Result<ConfigFile, _> = serde_json::from_slice(bytes);
    let file = file.map_err(|error| ImageError::Invalid {
        what: "configuration",
        digest: digest.to_string(),
        reason: error.to_string(),
    })?;
    Ok((file.config, file.rootfs.diff_ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(letter: char) -> Digest {
        format!("sha256:{}", letter.to_string().repeat(64)).parse().unwrap()
    }

    fn entry(letter: char, os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: digest(letter),
            size: 1,
            platform: Some(Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: variant.map(Into::into),
            }),
        }
    }

    #[test]
    fn the_index_entry_of_this_machine_is_chosen() {
        let index = || {
            vec![
                entry('a', "windows", "amd64", None),
                entry('b', "linux", "amd64", None),
                entry('c', "linux", "arm", Some("v6")),
                entry('d', "linux", "arm", Some("v7")),
                entry('e', "unknown", "unknown", None),
            ]
        };
        assert_eq!(choose("x", index(), "amd64").unwrap().digest, digest('b'));
        assert_eq!(choose("x", index(), "arm").unwrap().digest, digest('d'));
        let error = choose("x", index(), "s390x").unwrap_err().to_string();
        let expected = "image `x` has nothing for linux/s390x, only for \
                        windows/amd64, linux/amd64, linux/arm/v6, linux/arm/v7";
        assert_eq!(error, expected);
    }

    #[test]
    fn configurations_may_be_full_of_null() {
        let diff = digest('a');
        let text = format!(
            r#"{{"config":{{"Entrypoint":null,"Cmd":["sh"],"Env":null,"Volumes":{{"/data":{{}}}},
            "User":null,"WorkingDir":""}},"rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
        );
        let (config, layers) = parse_config(&digest('b'), text.as_bytes()).unwrap();
        assert_eq!(layers, [diff]);
        let expected = ImageConfig {
            cmd: vec!["sh".into()],
            volumes: vec!["/data".into()],
            ..ImageConfig::default()
        };
        assert_eq!(config, expected);
        let bare = br#"{"config":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
        assert_eq!(parse_config(&digest('b'), bare).unwrap().0, ImageConfig::default());
    }

    #[test]
    fn an_image_says_how_its_health_is_looked_at() {
        let health = r#"{"Test":["CMD-SHELL","look"],"Interval":5000000000,"Retries":4}"#;
        let text = format!(
            r#"{{"config":{{"Healthcheck":{health},"Shell":["/bin/ash","-c"]}},"rootfs":{{"type":"layers","diff_ids":null}}}}"#
        );
        let config = parse_config(&digest('b'), text.as_bytes()).unwrap().0;
        assert_eq!(config.shell, ["/bin/ash", "-c"]);
        let health = config.healthcheck.unwrap();
        assert_eq!(health.test, ["CMD-SHELL", "look"]);
        assert_eq!((health.interval, health.retries, health.timeout), (5_000_000_000, 4, 0));
    }

    #[test]
    fn what_is_neither_image_nor_index_is_refused() {
        for text in ["", "{}", "[]", r#"{"config":{}}"#, r#"{"manifests":[{"digest":"sha256:1"}]}"#]
        {
            assert!(parse(&digest('a'), text.as_bytes()).is_err(), "{text} was taken");
        }
    }
}
