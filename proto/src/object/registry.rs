use std::fmt;
use std::str::FromStr;

use crate::id::Timestamp;

use super::Secret;

/// Docker Hub's name in images' names.
const HUB: &str = "docker.io";
/// The other names by which people and Docker's own files call it.
const HUB_NAMES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
/// Under which name Docker's own files keep what is for Docker Hub.
const HUB_ADDRESS: &str = "https://index.docker.io/v1/";
/// The longest name of a host, and a port.
const LONGEST: usize = 253 + 6;

/// Why a text names no registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a registry: write its host, or `host:port`")]
pub struct ParseRegistryError(String);

/// A registry as images' names have it: `host` or `host:port`; Docker Hub is `docker.io`, whatever it was called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryName(String);

impl RegistryName {
    /// Docker Hub.
    pub fn hub() -> Self {
        Self(HUB.to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What Docker's files and its programs for credentials call it.
    pub fn docker_address(&self) -> &str {
        if self.0 == HUB { HUB_ADDRESS } else { &self.0 }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RegistryName {
    type Err = ParseRegistryError;

    /// Also takes an address as Docker's files have it: `https://host/v1/`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseRegistryError(text.chars().take(LONGEST).collect());
        let plain = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let (host, path) = match (plain, text.split_once('/')) {
            (Some(plain), _) => plain.split_once('/').unwrap_or((plain, "")),
            (None, Some(parted)) => parted,
            (None, None) => (text, ""),
        };
        if !matches!(path.trim_end_matches('/'), "" | "v1" | "v2") || host.len() > LONGEST {
            return Err(refuse());
        }
        let (name, port) = host.split_once(':').map_or((host, None), |(n, p)| (n, Some(p)));
        let is_part = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.');
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        let ends = name.starts_with(['.', '-']) || name.ends_with(['.', '-']);
        if name.is_empty() || ends || !name.bytes().all(is_part) || !port.is_none_or(is_port) {
            return Err(refuse());
        }
        let host = host.to_ascii_lowercase();
        let is_hub = HUB_NAMES.contains(&host.as_str());
        Ok(if is_hub { Self::hub() } else { Self(host) })
    }
}

/// A name and password for a registry, which the nodes that need it use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryLogin {
    /// Where.
    pub registry: RegistryName,
    /// Who.
    pub user: String,
    /// The password, or a token that stands for one. No output shows it.
    pub password: Secret,
    /// When it was kept.
    pub updated_at: Timestamp,
}

impl RegistryLogin {
    /// The longest name or password, in bytes: tokens of clouds are long.
    pub const LONGEST: usize = 8 << 10;

    /// The name that stands for an identity token in the place of a password, as Docker has it.
    const TOKEN_USER: &str = "<token>";

    /// An identity token, for which the service that gives a registry's tokens gives one for each request.
    pub fn with_token(registry: RegistryName, token: Secret) -> Self {
        Self::new(registry, Self::TOKEN_USER.to_owned(), token)
    }

    /// Whether the password is an identity token.
    pub fn is_token(&self) -> bool {
        self.user == Self::TOKEN_USER
    }

    /// One that is not kept yet.
    pub fn new(registry: RegistryName, user: String, password: Secret) -> Self {
        Self { registry, user, password, updated_at: Timestamp::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_one_name() {
        let table = [
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("R.example:5000", "r.example:5000"),
            ("https://r.example", "r.example"),
            ("http://10.0.0.1:5000/v2/", "10.0.0.1:5000"),
            ("r.example/v2", "r.example"),
            ("localhost", "localhost"),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<RegistryName>().unwrap().as_str(), expected, "{text}");
        }
        let long = "a".repeat(300);
        let table =
            ["", "/", "https://", "a b", "a/b", "a:0", "a:b", "-a", "a.", "ü", "user@a", &long];
        for text in table {
            assert!(text.parse::<RegistryName>().is_err(), "`{text}` was taken");
        }
        assert_eq!(RegistryName::hub().docker_address(), "https://index.docker.io/v1/");
    }

    #[test]
    fn no_output_shows_the_password() {
        let password = Secret::new("swordfish".into());
        let login = RegistryLogin::new(RegistryName::hub(), "ada".into(), password);
        let wire = crate::wire::RegistryLogin::from(&login);
        for shown in [format!("{login:?}"), format!("{wire:?}")] {
            assert!(shown.contains("ada") && !shown.contains("swordfish"), "{shown}");
        }
    }
}
