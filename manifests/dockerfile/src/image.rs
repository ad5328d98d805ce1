//! The configuration of an image, under OCI's names with Docker's additions.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/config.md> and
//! <https://github.com/moby/docker-image-spec>.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plan::Platform;

/// Where programs are looked for when an image does not say; what Docker and `BuildKit` give.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image's configuration document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Image {
    /// When it was made, RFC 3339. The engine's to fill in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<String>,
    /// Who made it: `MAINTAINER`.
    #[serde(skip_serializing_if = "String::is_empty", default, deserialize_with = "or_default")]
    pub author: String,
    /// The processor, in Go's words: `amd64`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// The processor's variant: `v7`.
    #[serde(skip_serializing_if = "String::is_empty", default, deserialize_with = "or_default")]
    pub variant: String,
    /// The system: `linux`.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// How containers of it run.
    #[serde(default, deserialize_with = "or_default")]
    pub config: ImageConfig,
    /// Its layers. The engine's to fill in: a base's are kept, each step that touches files may add one.
    #[serde(default, deserialize_with = "or_default")]
    pub rootfs: Rootfs,
    /// How it was made.
    #[serde(skip_serializing_if = "Vec::is_empty", default, deserialize_with = "or_default")]
    pub history: Vec<History>,
}

/// How containers of an image run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    /// The user, with a group after a colon; empty is root.
    #[serde(skip_serializing_if = "String::is_empty", default, deserialize_with = "or_default")]
    pub user: String,
    /// Ports with their protocol: `80/tcp`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", with = "set", default)]
    pub exposed_ports: BTreeSet<String>,
    /// Variables as `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", default, deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// The program with its first arguments.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments, or the program where there is no entrypoint.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cmd: Option<Vec<String>>,
    /// Folders that get a volume each.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", with = "set", default)]
    pub volumes: BTreeSet<String>,
    /// Where the program starts.
    #[serde(skip_serializing_if = "String::is_empty", default, deserialize_with = "or_default")]
    pub working_dir: String,
    /// What its maker says of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default, deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end.
    #[serde(skip_serializing_if = "String::is_empty", default, deserialize_with = "or_default")]
    pub stop_signal: String,
    /// How to tell whether it is well. Docker's addition.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds that begin with this image. Docker's addition.
    #[serde(skip_serializing_if = "Vec::is_empty", default, deserialize_with = "or_default")]
    pub on_build: Vec<String>,
    /// The shell of commands that are no list. Docker's addition.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shell: Option<Vec<String>>,
}

/// How to tell whether a container is well. Times are nanoseconds; zero is the default of whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, or `CMD` with a program, or `CMD-SHELL` with a command.
    #[serde(skip_serializing_if = "Vec::is_empty", default, deserialize_with = "or_default")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub interval: u64,
    /// What one may take.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub timeout: u64,
    /// How long failures do not count at first.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub start_period: u64,
    /// Between two checks in that time.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub start_interval: u64,
    /// How many failures in a row make it unhealthy.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub retries: u64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the layers' archives before compression, the lowest first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<String>,
}

impl Default for Rootfs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One line of an image's history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339. The engine's to fill in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<String>,
    /// The instruction.
    #[serde(skip_serializing_if = "String::is_empty", default, deserialize_with = "or_default")]
    pub created_by: String,
    /// Who.
    #[serde(skip_serializing_if = "String::is_empty", default, deserialize_with = "or_default")]
    pub author: String,
    /// What built it.
    #[serde(skip_serializing_if = "String::is_empty", default, deserialize_with = "or_default")]
    pub comment: String,
    /// Whether no layer belongs to it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub empty_layer: bool,
}

impl Image {
    /// What `FROM scratch` begins with: no layers, only the default `PATH`.
    pub fn scratch(platform: &Platform) -> Self {
        let config = ImageConfig {
            env: vec![DEFAULT_PATH.to_owned()],
            working_dir: "/".to_owned(),
            ..ImageConfig::default()
        };
        Self {
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            os: platform.os.clone(),
            config,
            ..Self::default()
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Go writes what is not there as `null`.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Go writes a set as an object of empty objects.
mod set {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Nothing {}

    pub(super) fn serialize<S: Serializer>(
        names: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(names.iter().map(|name| (name, Nothing {})))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map: Option<BTreeMap<String, Option<Nothing>>> = Option::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}
