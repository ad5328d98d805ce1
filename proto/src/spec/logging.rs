//! Where a container's output goes.

use serde::{Deserialize, Serialize};

/// Where lines go. All but `None` also keep the newest lines on the host, for `swarmctl logs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogDriver {
    /// Files on the host.
    #[default]
    Local,
    /// Nowhere.
    None,
    /// The host's journal.
    Journald,
    /// A syslog server.
    Syslog,
}

/// The form of a syslog message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogFormat {
    /// RFC 3164, in UTC.
    #[default]
    Rfc3164,
    /// RFC 5424, with seconds.
    Rfc5424,
    /// RFC 5424, with microseconds.
    Rfc5424Micro,
}

/// A syslog server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Syslog {
    /// `udp://host:514`, `tcp://host:601`, `unix:///path` or `unixgram:///path`; `None` is the host's own at `/dev/log`.
    pub address: Option<String>,
    /// The facility's number, 0 to 23; `None` is `daemon`.
    pub facility: Option<u8>,
    /// The form.
    pub format: SyslogFormat,
}

/// What `logging` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Where lines go.
    pub driver: LogDriver,
    /// The size in bytes at which a file on the host is set aside; `None` is 10 MiB.
    pub max_bytes: Option<u64>,
    /// Files that are kept, at least one; `None` is two.
    pub max_files: Option<u32>,
    /// The name under which lines go to a journal or syslog server, with `{{.Name}}` and the like; `None` is the
    /// container's identity.
    pub tag: Option<String>,
    /// Labels of the container that go along.
    pub labels: Vec<String>,
    /// Variables of its environment that go along.
    pub environment: Vec<String>,
    /// The server.
    pub syslog: Syslog,
}

impl Logging {
    /// What a tag may speak of.
    pub const TAG_FIELDS: [&str; 4] = [".Name", ".ID", ".FullID", ".ImageName"];
}
