//! `/etc/swarm/controller.toml`: every key has a default, an unknown one is an error that names the nearest known.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use swarm_proto::transport::CERTIFICATE_LIFE;
use swarm_proto::version::ClusterVersion;

/// Where the configuration is looked for when nobody says otherwise; it may be absent.
pub const DEFAULT_PATH: &str = "/etc/swarm/controller.toml";

/// The port that controllers listen on when nobody says otherwise.
pub const DEFAULT_PORT: u16 = 2377;

const KNOWN_KEYS: [&str; 12] = [
    "state_dir",
    "run_dir",
    "listen",
    "advertise",
    "tick_ms",
    "election_ticks",
    "heartbeat_ticks",
    "snapshot_entries",
    "certificate_seconds",
    "renewal_grace_seconds",
    "cluster_version_at_most",
    "log",
];

/// The root certificate's life, in seconds.
const LONGEST_LIFE: u64 = 20 * 365 * 24 * 3600;

/// How certificates are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signing {
    /// How long they are valid.
    pub life: Duration,
    /// How long after its end a node may still renew its certificate by proof of its old key.
    pub grace: Duration,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file exists and cannot be read, or was named and does not exist.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key that means nothing here.
    #[error("{}:{line}: unknown key `{key}`{}", path.display(), suggestion(nearest.as_deref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// The key.
        key: String,
        /// A known key that looks like it.
        nearest: Option<String>,
    },
    /// A cluster that begins anew has the newest version.
    #[error(
        "the cluster would begin with version {}, and `cluster_version_at_most` is {most}\n\nhint: take the setting out of the configuration first",
        ClusterVersion::NEWEST
    )]
    Held {
        /// What is set.
        most: u32,
    },
    /// Not TOML, or a value of the wrong kind.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    match nearest {
        Some(key) => format!("\n\nhint: did you mean `{key}`?"),
        None => format!("\n\nhint: known keys are {}", KNOWN_KEYS.join(", ")),
    }
}

/// How this controller runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where identity and log are kept.
    pub state_dir: PathBuf,
    /// Where the local socket is made.
    pub run_dir: PathBuf,
    /// Where controllers, agents and users connect.
    pub listen: SocketAddr,
    /// `host[:port]` at which other hosts reach it; needed by `init` and `join` only.
    pub advertise: Option<String>,
    /// The unit of Raft's time, in milliseconds.
    pub tick_ms: u64,
    /// Ticks without a leader until an election, before randomisation.
    pub election_ticks: u64,
    /// Ticks between the leader's heartbeats.
    pub heartbeat_ticks: u64,
    /// Entries applied between two snapshots; fewer where they come to 128 MiB.
    pub snapshot_entries: u64,
    /// How long certificates are valid that this controller signs, in seconds: at least 10.
    pub certificate_seconds: u64,
    /// How long after its end a node may still renew its certificate by proof of its old key, in seconds.
    pub renewal_grace_seconds: u64,
    /// The cluster version that the cluster is not to go beyond, so that an upgrade can still be taken back.
    pub cluster_version_at_most: Option<u32>,
    /// What is logged: `info`, or directives as `RUST_LOG` takes them.
    pub log: String,
    /// The file that this was read from, when somebody named one.
    #[serde(skip)]
    pub source: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/swarm"),
            run_dir: PathBuf::from("/run/swarm"),
            listen: SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT)),
            advertise: None,
            tick_ms: 25,
            election_ticks: 10,
            heartbeat_ticks: 2,
            snapshot_entries: 10_000,
            certificate_seconds: CERTIFICATE_LIFE.as_secs(),
            renewal_grace_seconds: CERTIFICATE_LIFE.as_secs(),
            cluster_version_at_most: None,
            log: String::from("info"),
            source: None,
        }
    }
}

impl Config {
    /// Reads `path`, or the default file, which may be absent.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let chosen = path.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(chosen) {
            Ok(text) => {
                let config = Self::parse(chosen, &text)?;
                Ok(Self { source: path.map(Path::to_owned), ..config })
            }
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read { path: chosen.to_owned(), source }),
        }
    }

    /// Reads the text of a configuration; `path` is for messages only.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| explain(path, text, &error))?;
        config.check(path, text)?;
        Ok(config)
    }

    fn check(&self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let refuse = |key: &str, message: &str| {
            Err(ConfigError::Invalid {
                path: path.to_owned(),
                line: line_of_key(text, key),
                message: format!("`{key}` {message}"),
            })
        };
        if !(1..=1000).contains(&self.tick_ms) {
            return refuse("tick_ms", "must lie between 1 and 1000");
        }
        if self.heartbeat_ticks == 0 || self.heartbeat_ticks > 1000 {
            return refuse("heartbeat_ticks", "must lie between 1 and 1000");
        }
        if self.election_ticks <= self.heartbeat_ticks || self.election_ticks > 10_000 {
            return refuse(
                "election_ticks",
                "must be more than `heartbeat_ticks`, and at most 10000",
            );
        }
        if self.snapshot_entries < 100 {
            return refuse("snapshot_entries", "must be at least 100");
        }
        if !(10..=LONGEST_LIFE).contains(&self.certificate_seconds) {
            return refuse("certificate_seconds", "must lie between 10 and 630720000 (20 years)");
        }
        if self.renewal_grace_seconds > LONGEST_LIFE {
            return refuse("renewal_grace_seconds", "must be at most 630720000 (20 years)");
        }
        if self.cluster_version_at_most == Some(0) {
            return refuse("cluster_version_at_most", "must be at least 1");
        }
        Ok(())
    }

    /// The highest cluster version that this controller goes along with.
    pub fn knows(&self) -> ClusterVersion {
        let most = self.cluster_version_at_most.map_or(ClusterVersion::NEWEST, ClusterVersion);
        most.min(ClusterVersion::NEWEST)
    }

    /// Refuses for a cluster that begins anew with this host, and so with the newest version.
    pub fn refuse_hold(&self) -> Result<(), ConfigError> {
        match self.cluster_version_at_most {
            Some(most) if self.knows() < ClusterVersion::NEWEST => Err(ConfigError::Held { most }),
            _ => Ok(()),
        }
    }

    /// The unit of Raft's time.
    pub fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_ms)
    }

    /// How this controller signs certificates.
    pub fn signing(&self) -> Signing {
        Signing {
            life: Duration::from_secs(self.certificate_seconds),
            grace: Duration::from_secs(self.renewal_grace_seconds),
        }
    }

    /// The folder with this host's certificate.
    pub fn identity_dir(&self) -> PathBuf {
        self.state_dir.join("identity")
    }

    /// The folder with the log and its snapshots.
    pub fn raft_dir(&self) -> PathBuf {
        self.state_dir.join("controller")
    }

    /// The local socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("controller.sock")
    }
}

fn explain(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map_or(1, |span| line_at(text, span.start));
    let table: Option<toml::Table> = toml::from_str(text).ok();
    let mut keys = table.iter().flat_map(toml::Table::keys);
    match keys.find(|key| !KNOWN_KEYS.contains(&key.as_str())) {
        Some(key) => ConfigError::UnknownKey {
            path: path.to_owned(),
            line: line_of_key(text, key),
            key: key.clone(),
            nearest: nearest(key),
        },
        None => ConfigError::Invalid {
            path: path.to_owned(),
            line,
            message: error.message().trim().to_owned(),
        },
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The line that sets a top-level key, or opens its table.
fn line_of_key(text: &str, key: &str) -> usize {
    let sets = |line: &str| {
        let line = line.trim_start().trim_start_matches(['[', '"', '\'']);
        line.strip_prefix(key).is_some_and(|rest| {
            let rest = rest.trim_start_matches(['"', '\'']).trim_start();
            rest.starts_with(['=', '.', ']'])
        })
    };
    text.lines().position(sets).map_or(1, |index| index + 1)
}

/// The known key with the fewest edits, when they are few for its length.
fn nearest(key: &str) -> Option<String> {
    let normal = key.replace('-', "_").to_lowercase();
    let scored = KNOWN_KEYS.iter().map(|known| (edits(&normal, known), *known));
    let (distance, known) = scored.min()?;
    (distance <= known.len() / 2).then(|| known.to_owned())
}

/// Levenshtein's distance.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn refused(text: &str, expected: &Expect) {
        let error = Config::parse(Path::new("controller.toml"), text).unwrap_err();
        expected.assert_eq(&error.to_string());
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        let config = Config::parse(Path::new("controller.toml"), "").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.socket(), Path::new("/run/swarm/controller.sock"));
    }

    #[test]
    fn values_are_taken() {
        let text = "listen = \"127.0.0.1:9\"\ntick_ms = 10\nstate_dir = \"/s\"\n";
        let config = Config::parse(Path::new("controller.toml"), text).unwrap();
        assert_eq!(config.listen, "127.0.0.1:9".parse().unwrap());
        assert_eq!(config.tick(), Duration::from_millis(10));
        assert_eq!(config.identity_dir(), Path::new("/s/identity"));
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest() {
        refused(
            "tick_ms = 25\n\nlissen = \"0.0.0.0:1\"\n",
            &expect![[r"
                controller.toml:3: unknown key `lissen`

                hint: did you mean `listen`?"]],
        );
        refused(
            "[registry.mirrors]\n",
            &expect![[r"
                controller.toml:1: unknown key `registry`

                hint: known keys are state_dir, run_dir, listen, advertise, tick_ms, election_ticks, heartbeat_ticks, snapshot_entries, certificate_seconds, renewal_grace_seconds, cluster_version_at_most, log"]],
        );
    }

    #[test]
    fn wrong_values_are_refused_with_their_line() {
        refused(
            "tick_ms = 0",
            &expect!["controller.toml:1: `tick_ms` must lie between 1 and 1000"],
        );
        refused(
            "\nelection_ticks = 2\n",
            &expect![
                "controller.toml:2: `election_ticks` must be more than `heartbeat_ticks`, and at most 10000"
            ],
        );
        refused(
            "certificate_seconds = 9",
            &expect![
                "controller.toml:1: `certificate_seconds` must lie between 10 and 630720000 (20 years)"
            ],
        );
        refused(
            "tick_ms = \"fast\"",
            &expect![[r#"controller.toml:1: invalid type: string "fast", expected u64"#]],
        );
        refused(
            "listen = 2377",
            &expect!["controller.toml:1: invalid type: integer `2377`, expected socket address"],
        );
    }

    #[test]
    fn a_named_file_must_exist_and_the_default_one_need_not() {
        let error = Config::load(Some(Path::new("/nonexistent/controller.toml"))).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent/controller.toml");
    }
}
