//! Contexts: named clusters and how to reach them, in `~/.config/swarm/contexts.toml`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The socket of the controller on this host.
pub const LOCAL_SOCKET: &str = "unix:///run/swarm/controller.sock";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The context used when none is named; `None` is the local socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Controllers, tried in turn: `unix:///path` or `host:port`.
    pub hosts: Vec<String>,
    /// A PEM bundle of certificate, key and authority, for hosts reached over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
}

impl Contexts {
    /// Where the file lies: `$XDG_CONFIG_HOME/swarm/contexts.toml`, by default under `~/.config`.
    pub fn default_path() -> PathBuf {
        let absolute = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute())
        };
        let folder = absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .unwrap_or_else(|| PathBuf::from("/root/.config"));
        folder.join("swarm/contexts.toml")
    }

    /// Reads the file; one that does not exist is empty.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(Failure::refused(format!("cannot read `{}`: {error}", path.display())));
            }
        };
        toml::from_str(&text).map_err(|error| {
            let text = error.to_string();
            Failure::refused(format!("`{}` is not valid: {}", path.display(), text.trim_end()))
                .hint("correct the file, or remove it and make the contexts anew")
        })
    }

    /// Writes the file whole, so that a reader sees the old or the new one.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let refused =
            |error| Failure::refused(format!("cannot write `{}`: {error}", path.display()));
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).map_err(refused)?;
        let text = toml::to_string(self).map_err(|error| {
            Failure::refused(format!("cannot write `{}`: {error}", path.display()))
        })?;
        let new = folder.join(format!(".contexts.toml.{}", std::process::id()));
        let mut file = std::fs::File::create(&new).map_err(refused)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(refused)?;
        std::fs::rename(&new, path).map_err(refused)
    }

    /// Adds or replaces a context and makes it the current one.
    pub fn select(&mut self, name: &str, context: Context) {
        self.contexts.insert(name.to_owned(), context);
        self.current = Some(name.to_owned());
    }

    /// Forgets a context; the current one becomes none when it was this.
    pub fn remove(&mut self, name: &str) {
        self.contexts.remove(name);
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
    }

    /// The context to use: the named one, else the current one, else the local socket.
    pub fn resolve(&self, name: Option<&str>) -> Result<Context, Failure> {
        let Some(name) = name.or(self.current.as_deref()) else {
            return Ok(Context { hosts: vec![LOCAL_SOCKET.to_owned()], identity: None });
        };
        self.contexts.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let hint = if known.is_empty() {
                "there is no context yet; `swarmctl lab up` makes one, or use `--host`".to_owned()
            } else {
                format!("known contexts: {}", known.join(", "))
            };
            Failure::usage(format!("context `{name}` does not exist")).hint(hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_saves_and_loads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("swarm/contexts.toml");
        let mut contexts = Contexts::load(&path).unwrap();
        assert_eq!(contexts.resolve(None).unwrap().hosts, [LOCAL_SOCKET]);
        let context =
            Context { hosts: vec!["unix:///a".into(), "unix:///b".into()], identity: None };
        contexts.select("lab", context.clone());
        contexts.save(&path).unwrap();
        let mut again = Contexts::load(&path).unwrap();
        assert_eq!(again, contexts);
        assert_eq!(again.resolve(None).unwrap(), context);
        assert_eq!(again.resolve(Some("home")).unwrap_err().code, crate::failure::Code::Usage);
        again.remove("lab");
        assert_eq!(again, Contexts::default());
    }
}
