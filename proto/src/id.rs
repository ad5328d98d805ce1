//! Typed identities. All are counted in the replicated state, so none is ever drawn at random or reused.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind}")]
pub struct ParseIdError {
    /// What was expected, as a reader would say it (`task id`).
    pub kind: &'static str,
    /// What was found.
    pub text: String,
}

macro_rules! counted_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let invalid = || ParseIdError { kind: $kind, text: text.to_owned() };
                text.parse().map(Self).map_err(|_| invalid())
            }
        }
    };
}

counted_id!(
    /// A machine that joined the cluster, counted from 1 in the order of joining.
    NodeId,
    "node id"
);
counted_id!(
    /// A service.
    ServiceId,
    "service id"
);
counted_id!(
    /// An overlay network.
    NetworkId,
    "network id"
);
counted_id!(
    /// A named volume.
    VolumeId,
    "volume id"
);
counted_id!(
    /// A controller's identity in the Raft group. Never reused, also not by the same host.
    RaftId,
    "raft id"
);

/// The n-th place of a service, in which tasks succeed each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The n-th replica of a replicated service, counted from 1.
    Replica(u32),
    /// The place of a one-off task: the service's run with this number.
    OneOff(u32),
    /// The one place that a global service has on a node.
    Node(NodeId),
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(number) => write!(f, "{number}"),
            Self::OneOff(run) => write!(f, "r{run}"),
            Self::Node(node) => write!(f, "n{node}"),
        }
    }
}

impl FromStr for Slot {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseIdError { kind: "slot", text: text.to_owned() };
        if let Some(run) = text.strip_prefix('r') {
            return run.parse().map(Self::OneOff).map_err(|_| invalid());
        }
        match text.strip_prefix('n') {
            Some(node) => node.parse().map(Self::Node),
            None => text.parse().map(Self::Replica).map_err(|_| invalid()),
        }
    }
}

/// One run of a service on one node: `service.slot.generation`, as `7.2.1` or, for a global service, `7.n3.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The service that this is a run of.
    pub service: ServiceId,
    /// The place in the service.
    pub slot: Slot,
    /// Counts the tasks of this slot, from 1.
    pub generation: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.service, self.slot, self.generation)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseIdError { kind: "task id", text: text.to_owned() };
        let mut parts = text.split('.');
        let (Some(service), Some(slot), Some(generation), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid());
        };
        Ok(Self {
            service: service.parse().map_err(|_| invalid())?,
            slot: slot.parse().map_err(|_| invalid())?,
            generation: generation.parse().map_err(|_| invalid())?,
        })
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(Slot);
serde_as_text!(TaskId);

/// A point in cluster time: milliseconds since the Unix epoch, as the leader's clock gave it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This point plus a duration, saturating.
    #[must_use]
    pub fn after(self, duration: std::time::Duration) -> Self {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }

    /// How long after `earlier` this point lies; zero when it does not.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Where one run of a task was counted, the `attempt`s an agent makes by itself while cut off.
pub type Attempt = u32;

/// A SHA-256 digest in the form of the OCI image specification: `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of bytes that follow each other.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        let mut text = String::from("sha256:");
        for byte in hash.finalize() {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The whole, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Digest {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(is_hex) => Ok(Self(text.to_owned())),
            _ => Err(ParseIdError { kind: "digest", text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}
