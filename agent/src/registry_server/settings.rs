//! What `[registry_server]` of `agent.toml` says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Its keys.
pub(crate) const SETTINGS: &[&str] =
    &["listen", "tls", "accounts", "pull_only", "anonymous", "insecure"];
/// Keys of its `tls`.
pub(crate) const TLS_SETTINGS: &[&str] = &["certificate", "key"];

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read.
    Pull,
    /// Read, write and delete.
    Push,
}

/// The table as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct RegistryServerConfig {
    /// `address:port`; without it there is no registry on this host.
    pub listen: Option<String>,
    /// Its certificate.
    pub tls: Option<TlsFiles>,
    /// A file of names and passwords as `htpasswd -B` writes it.
    pub accounts: Option<PathBuf>,
    /// Those of the accounts that may only read.
    pub pull_only: BTreeSet<String>,
    /// What those may do who say no name.
    pub anonymous: Option<Access>,
    /// Without TLS on more than the loopback, by intent.
    pub insecure: bool,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TlsFiles {
    /// The certificate, then those that lead to its authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// What it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// See [`RegistryServerConfig`].
    pub accounts: Option<PathBuf>,
    /// See [`RegistryServerConfig`].
    pub pull_only: BTreeSet<String>,
    /// `None`: nothing without a name.
    pub anonymous: Option<Access>,
}

impl RegistryServerConfig {
    /// Checks what is written; `None`: there is no registry. An error names the key, what is wrong, and what to do.
    pub fn settings(&self) -> Result<Option<Settings>, String> {
        let wrong = |key: &str, what: &str, hint: &str| {
            Err(format!("`registry_server.{key}` {what}\n\nhint: {hint}"))
        };
        let Some(listen) = &self.listen else {
            if *self == Self::default() {
                return Ok(None);
            }
            return wrong("listen", "is missing", "say where it listens: `127.0.0.1:5000`");
        };
        let Ok(listen) = listen.parse::<SocketAddr>() else {
            let what = format!("is `{listen}`, not an IP address and a port");
            return wrong("listen", &what, "`0.0.0.0:5000` is all addresses of this host");
        };
        let files = self.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]);
        if let Some(path) = files.chain(&self.accounts).find(|path| !path.is_absolute()) {
            let key = if Some(path) == self.accounts.as_ref() { "accounts" } else { "tls" };
            let what = format!("names `{}`, which is not an absolute path", path.display());
            return wrong(key, &what, "write it from `/` on");
        }
        let is_loopback = listen.ip().is_loopback();
        if self.tls.is_some() && self.insecure {
            return wrong("insecure", "is set beside `tls`", "take one of them away");
        }
        if self.tls.is_none() && !is_loopback && !self.insecure {
            let what = "is missing: names and passwords would cross the network in the clear";
            return wrong("tls", what, "name `certificate` and `key`, or say `insecure = true`");
        }
        if self.accounts.is_none() && !self.pull_only.is_empty() {
            let what = "names accounts, and there are none";
            return wrong("pull_only", what, "name their file under `accounts`");
        }
        if self.accounts.is_none() && self.anonymous.is_none() && !is_loopback {
            let what = "is missing: nobody could come in";
            let hint = "name a file that `htpasswd -B` wrote, or say `anonymous = \"pull\"`";
            return wrong("accounts", what, hint);
        }
        let anonymous = match (&self.accounts, self.anonymous) {
            (None, None) => Some(Access::Push),
            (_, anonymous) => anonymous,
        };
        Ok(Some(Settings {
            listen,
            tls: self.tls.clone(),
            accounts: self.accounts.clone(),
            pull_only: self.pull_only.clone(),
            anonymous,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Option<Settings>, String> {
        toml::from_str::<RegistryServerConfig>(text).map_err(|e| e.to_string())?.settings()
    }

    #[test]
    fn what_is_safe_is_taken() {
        assert_eq!(settings(""), Ok(None));
        let open = settings("listen = '127.0.0.1:5000'").unwrap().unwrap();
        assert_eq!((open.anonymous, open.tls), (Some(Access::Push), None));
        let text = "listen = '[::]:5000'\ntls = { certificate = '/c', key = '/k' }\n\
                    accounts = '/a'\npull_only = ['x']";
        let closed = settings(text).unwrap().unwrap();
        assert_eq!((closed.anonymous, closed.listen.port()), (None, 5000));
        let text = "listen = '0.0.0.0:5000'\ninsecure = true\nanonymous = 'pull'";
        assert_eq!(settings(text).unwrap().unwrap().anonymous, Some(Access::Pull));
    }

    #[test]
    fn what_is_not_says_why_and_what_to_do() {
        let table = [
            ("anonymous = 'pull'", "`registry_server.listen` is missing\n\nhint: "),
            ("listen = 'x:5000'", "is `x:5000`, not an IP address and a port\n\nhint: "),
            ("listen = '0.0.0.0:5000'\naccounts = '/a'", "`registry_server.tls` is missing"),
            (
                "listen = '0.0.0.0:5000'\ninsecure = true",
                "`registry_server.accounts` is missing: nobody could come in",
            ),
            (
                "listen = '127.0.0.1:1'\npull_only = ['x']",
                "`registry_server.pull_only` names accounts, and there are none",
            ),
            ("listen = '127.0.0.1:1'\naccounts = 'a'", "`registry_server.accounts` names `a`"),
            (
                "listen = '127.0.0.1:1'\ntls = { certificate = 'c', key = '/k' }",
                "`registry_server.tls` names `c`",
            ),
            (
                "listen = '127.0.0.1:1'\ninsecure = true\n\
                 tls = { certificate = '/c', key = '/k' }",
                "`registry_server.insecure` is set beside `tls`",
            ),
            ("listen = '127.0.0.1:1'\nanonymous = 'all'", "unknown variant `all`"),
            ("listen = '127.0.0.1:1'\ntls = { certificate = '/c' }", "missing field `key`"),
        ];
        for (text, expected) in table {
            let error = settings(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
