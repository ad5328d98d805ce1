//! The agent's configuration, `/etc/swarm/agent.toml`. Everything has a default; what is not known is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use swarm_proto::object::GenericResources;

use crate::executor::BuildSubnet;
use crate::image::{Endpoint, Registries, SLOWEST};
use crate::registry_server::{self, RegistryServerConfig};
use crate::resources::{self, Reserve, ResourceDevices};

/// Where Docker keeps names and passwords for registries, of root.
const DEFAULT_CREDENTIALS: &str = "/root/.docker/config.json";

/// How long caches of builds stay without use.
const BUILD_CACHE_AGE: Duration = Duration::from_hours(14 * 24);

/// Where the configuration lies unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/swarm/agent.toml";

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no TOML, or a value is of the wrong kind.
    #[error("the configuration `{}` is wrong: {reason}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Place and reason.
        reason: String,
    },
    /// A setting that does not exist.
    #[error("the configuration `{}` has the unknown setting `{key}`{}", path.display(), hint(nearest.as_deref()))]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// The one that was probably meant.
        nearest: Option<String>,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("\n\nhint: did you mean `{name}`?")).unwrap_or_default()
}

/// Settings of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// State that outlives reboots.
    pub state_dir: PathBuf,
    /// Sockets and namespaces.
    pub run_dir: PathBuf,
    /// The address at which other hosts reach this one; by default the one that leads to the controllers.
    pub advertise_address: Option<Ipv4Addr>,
    /// The agent's own port.
    pub port: u16,
    /// The parent of all containers' control groups, relative to each hierarchy's root.
    pub cgroup_parent: String,
    /// The program that runs containers; by default `swarm-runtime` beside this program.
    pub runtime: Option<PathBuf>,
    /// Labels of this engine, for constraints on `engine.labels.*`.
    pub engine_labels: BTreeMap<String, String>,
    /// What the host has beside CPUs, memory and processes, as Swarm writes it: `gpu=uuid1`, `slots=4`.
    pub generic_resources: Vec<String>,
    /// Device nodes that containers get with such a resource: by `gpu=uuid1`, or by `gpu` with any of the kind.
    pub resource_devices: ResourceDevices,
    /// What is kept for the host itself.
    pub reserve: Reserve,
    /// Bytes of the disk that images leave free; by default a twentieth of it, at most 1 GiB.
    #[serde(deserialize_with = "resources::bytes")]
    pub image_reserve: Option<u64>,
    /// Bytes per second that come from registries, all downloads together; by default without a limit.
    #[serde(deserialize_with = "resources::bytes")]
    pub pull_rate: Option<u64>,
    /// Bytes per second of images that other hosts copy from this one, all together; by default without a limit.
    #[serde(deserialize_with = "resources::bytes")]
    pub share_rate: Option<u64>,
    /// How long what builds made of a step, and their caches, stay without use.
    #[serde(deserialize_with = "resources::age")]
    pub build_cache_age: Duration,
    /// Where the programs of builds have their addresses: a subnet that leads nowhere else from this host.
    pub build_subnet: BuildSubnet,
    /// Where images come from.
    pub registry: RegistryConfig,
    /// The registry that this host itself is; none by default.
    pub registry_server: RegistryServerConfig,
}

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct RegistryConfig {
    /// Asked before the registry itself, in this order: `http://host:port` or `https://host:port`, by registry.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Registries that are asked without TLS.
    pub insecure: BTreeSet<String>,
    /// Registries that are never asked themselves, only their mirrors.
    pub mirrors_only: BTreeSet<String>,
    /// The HTTP proxy through which registries that speak TLS are reached: `http://host:port`.
    pub proxy: Option<String>,
    /// By registry (`host` or `host:port`) or mirror, a file with certificates of authorities that it is trusted by, PEM,
    /// beside those that the host trusts.
    pub ca_files: BTreeMap<String, PathBuf>,
    /// A file of names and passwords as `docker login` writes it, for registries at which the cluster has no login; by
    /// default root's own. Programs that it names are run.
    pub credentials: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/swarm".into(),
            run_dir: "/run/swarm".into(),
            advertise_address: None,
            port: 2387,
            cgroup_parent: "swarm".into(),
            runtime: None,
            engine_labels: BTreeMap::new(),
            generic_resources: Vec::new(),
            resource_devices: ResourceDevices::new(),
            reserve: Reserve::default(),
            image_reserve: None,
            pull_rate: None,
            share_rate: None,
            build_cache_age: BUILD_CACHE_AGE,
            build_subnet: BuildSubnet::default(),
            registry: RegistryConfig::default(),
            registry_server: RegistryServerConfig::default(),
        }
    }
}

const SETTINGS: &[&str] = &[
    "state_dir",
    "run_dir",
    "advertise_address",
    "port",
    "cgroup_parent",
    "runtime",
    "engine_labels",
    "generic_resources",
    "resource_devices",
    "reserve",
    "image_reserve",
    "pull_rate",
    "share_rate",
    "build_cache_age",
    "build_subnet",
    "registry",
    "registry_server",
];
const RESERVE_SETTINGS: &[&str] = &["cpus", "memory", "pids"];
const REGISTRY_SETTINGS: &[&str] =
    &["mirrors", "insecure", "mirrors_only", "proxy", "ca_files", "credentials"];

impl Config {
    /// Reads a file. The default file may be missing, one that was asked for may not.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(file, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_none() => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read { path: file.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |reason: String| ConfigError::Wrong { path: path.to_owned(), reason };
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
        check_keys(path, "", &table, SETTINGS)?;
        if let Some(toml::Value::Table(registry)) = table.get("registry") {
            check_keys(path, "registry.", registry, REGISTRY_SETTINGS)?;
        }
        if let Some(toml::Value::Table(reserve)) = table.get("reserve") {
            check_keys(path, "reserve.", reserve, RESERVE_SETTINGS)?;
        }
        if let Some(toml::Value::Table(server)) = table.get("registry_server") {
            check_keys(path, "registry_server.", server, registry_server::SETTINGS)?;
            if let Some(toml::Value::Table(tls)) = server.get("tls") {
                check_keys(path, "registry_server.tls.", tls, registry_server::TLS_SETTINGS)?;
            }
        }
        let mut config: Self = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        config.registries().map_err(wrong)?;
        config.check_rates().map_err(wrong)?;
        config.registry_server.settings().map_err(wrong)?;
        let resources = config.resources().map_err(wrong)?;
        let devices = resources::check_devices(&config.resource_devices, &resources);
        config.resource_devices = devices.map_err(wrong)?;
        let parent = Path::new(&config.cgroup_parent);
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if config.cgroup_parent.is_empty() || !parent.components().all(plain) {
            let parent = &config.cgroup_parent;
            return Err(wrong(format!("`cgroup_parent` is `{parent}`, not a plain relative path")));
        }
        Ok(config)
    }

    /// Whom to ask for images.
    pub fn registries(&self) -> Result<Registries, String> {
        let mut mirrors = BTreeMap::new();
        for (registry, urls) in &self.registry.mirrors {
            let endpoints: Result<Vec<_>, _> = urls.iter().map(|url| endpoint(url)).collect();
            mirrors.insert(registry.clone(), endpoints?);
        }
        let RegistryConfig { insecure, mirrors_only, proxy, ca_files, credentials, .. } =
            self.registry.clone();
        let paths = ca_files.values().chain(&credentials);
        if let Some(path) = paths.into_iter().find(|path| !path.is_absolute()) {
            return Err(format!("the path `{}` in `registry` is not absolute", path.display()));
        }
        let logins = Some(credentials.unwrap_or_else(|| DEFAULT_CREDENTIALS.into()));
        Ok(Registries { mirrors, insecure, mirrors_only, proxy, ca_files, logins })
    }

    fn check_rates(&self) -> Result<(), String> {
        let rates = [("pull_rate", self.pull_rate), ("share_rate", self.share_rate)];
        match rates.iter().find(|(_, rate)| rate.is_some_and(|rate| rate < SLOWEST)) {
            Some((name, _)) => {
                Err(format!("`{name}` is less than `{}k` bytes per second", SLOWEST >> 10))
            }
            None => Ok(()),
        }
    }

    /// What the host has beside CPUs, memory and processes.
    pub fn resources(&self) -> Result<GenericResources, String> {
        resources::generic(&self.generic_resources)
    }

    /// The agent's own part of the state.
    pub fn agent_dir(&self) -> PathBuf {
        self.state_dir.join("agent")
    }

    /// The program that runs containers.
    pub fn runtime_program(&self) -> PathBuf {
        if let Some(program) = &self.runtime {
            return program.clone();
        }
        other_program("swarm-runtime")
    }
}

/// Another program of the swarm: beside this one, else where packages put it.
pub(crate) fn other_program(name: &str) -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(name)));
    beside.filter(|path| path.exists()).unwrap_or_else(|| Path::new("/usr/bin").join(name))
}

fn check_keys(
    path: &Path,
    prefix: &str,
    table: &toml::Table,
    known: &[&str],
) -> Result<(), ConfigError> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let distances = known.iter().map(|name| (distance(name, key), name));
    let nearest = distances.min().filter(|(distance, _)| *distance <= 2 + key.len() / 4);
    Err(ConfigError::Unknown {
        path: path.to_owned(),
        key: format!("{prefix}{key}"),
        nearest: nearest.map(|(_, name)| format!("{prefix}{name}")),
    })
}

/// How many letters to change, add or leave out between two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

fn endpoint(url: &str) -> Result<Endpoint, String> {
    let (host, plain) = match url.split_once("://") {
        Some(("http", host)) => (host, true),
        Some(("https", host)) => (host, false),
        _ => return Err(format!("the mirror `{url}` does not begin with `http://` or `https://`")),
    };
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains('/') {
        return Err(format!("the mirror `{url}` is not just a host and perhaps a port"));
    }
    Ok(Endpoint { host: host.to_owned(), plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("agent.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_read() {
        let text = r#"
            state_dir = "/s"
            advertise_address = "10.0.0.2"
            engine_labels = { disk = "ssd" }
            generic_resources = ["gpu=a", "GPU=b", "slots=4"]
            resource_devices = { "gpu=a" = ["/dev/nvidia0"] }
            reserve = { cpus = 0.5, memory = "256m" }
            image_reserve = "2g"
            pull_rate = "10m"
            build_cache_age = "36h"
            [registry]
            insecure = ["r.example:5000"]
            credentials = "/c/config.json"
            [registry.ca_files]
            "r.example" = "/c/ca.pem"
            [registry.mirrors]
            "docker.io" = ["http://10.0.0.1:5000", "https://m.example/"]
        "#;
        let config = parse(text).unwrap();
        assert_eq!(config.agent_dir(), Path::new("/s/agent"));
        assert_eq!(config.port, 2387);
        assert_eq!(config.resources().unwrap().len(), 2);
        assert_eq!(config.reserve.memory, Some(256 << 20));
        assert_eq!(config.image_reserve, Some(2 << 30));
        assert_eq!((config.pull_rate, config.share_rate), (Some(10 << 20), None));
        assert_eq!(config.build_cache_age, Duration::from_hours(36));
        let registries = config.registries().unwrap();
        assert_eq!(registries.ca_files["r.example"], Path::new("/c/ca.pem"));
        assert_eq!(registries.logins.as_deref(), Some(Path::new("/c/config.json")));
        let endpoints = registries.endpoints("docker.io");
        let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(endpoints, ["http://10.0.0.1:5000", "https://m.example", "https://docker.io"]);
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("stat_dir = '/x'", "unknown setting `stat_dir`\n\nhint: did you mean `state_dir`?"),
            (
                "[registry]\nmirors = {}",
                "`registry.mirors`\n\nhint: did you mean `registry.mirrors`?",
            ),
            (
                "[registry_server]\nlisen = '127.0.0.1:5000'",
                "`registry_server.lisen`\n\nhint: did you mean `registry_server.listen`?",
            ),
            (
                "[registry_server]\nlisten = '0.0.0.0:5000'",
                "agent.toml` is wrong: `registry_server.tls` is missing",
            ),
            ("[registry_server.tls]\ncert = '/c'", "unknown setting `registry_server.tls.cert`"),
            ("colour = 1", "unknown setting `colour`"),
            ("[reserve]\ncpu = 1", "`reserve.cpu`\n\nhint: did you mean `reserve.cpus`?"),
            ("[reserve]\ncpus = 'x'", "no number of CPUs"),
            ("generic_resources = ['gpu']", "`gpu` is no generic resource"),
            ("resource_devices = { gpu = ['/dev/null'] }", "which is not in `generic_resources`"),
            ("share_rate = '100k'", "`share_rate` is less than `128k` bytes per second"),
            ("build_cache_age = 'x'", "`x` is no duration such as `14d`"),
            ("build_cache_age = 7", "`7` is no duration such as `14d`"),
            ("port = 'x'", "port"),
            ("port = 70000", "port"),
            ("cgroup_parent = '../x'", "cgroup_parent"),
            ("[registry.mirrors]\n'docker.io' = ['10.0.0.1:5000']", "does not begin with"),
            ("[registry.mirrors]\n'docker.io' = ['http://x/y']", "not just a host"),
            (
                "[registry]\ncredentials = 'config.json'",
                "`config.json` in `registry` is not absolute",
            ),
            (
                "[registry.ca_files]\n'r.example' = 'ca.pem'",
                "`ca.pem` in `registry` is not absolute",
            ),
            ("x", "agent.toml"),
        ];
        for (text, expected) in table {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
