//! Systems and processors.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::problem::cut;

/// A system and a processor, in Go's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`.
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no platform for Linux, such as linux/amd64")]
pub struct InvalidPlatform(pub String);

impl Platform {
    /// Linux on a processor, in Go's words.
    pub fn linux(architecture: &str) -> Self {
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(cut(text));
        let lower = text.to_ascii_lowercase();
        let is_word = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        let parts: Vec<&str> = lower.split('/').collect();
        if !parts.iter().all(is_word) {
            return Err(invalid());
        }
        let (architecture, variant) = match parts.as_slice() {
            ["linux", architecture] => (*architecture, None),
            ["linux", architecture, variant] => (*architecture, Some(*variant)),
            _ => return Err(invalid()),
        };
        // containerd's normal form.
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "amd64", variant) => ("amd64", variant.filter(|variant| *variant != "v1")),
            ("aarch64" | "arm64", variant) => {
                ("arm64", variant.filter(|variant| !matches!(*variant, "8" | "v8")))
            }
            ("i386" | "386", _) => ("386", None),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            other => other,
        };
        Ok(Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}
