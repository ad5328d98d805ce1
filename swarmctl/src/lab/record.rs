//! What a lab is, kept in its `lab.json`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::layout::{Layout, host_name};

/// A lab's shape and the choices made for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// How many hosts.
    pub(super) hosts: u8,
    /// How many of them, from the first, run a controller.
    pub(super) controllers: u8,
    /// The folder with the programs that the hosts run.
    pub(super) programs: PathBuf,
    /// The registry on the switch.
    pub(super) registry: Option<Registry>,
    /// What the relay dials for the hosts: `HOST:PORT`, or `*.DOMAIN:PORT`. Without any there is no relay.
    #[serde(default)]
    pub(super) relay: Vec<String>,
    /// Cut links: one name is a host that is off the network, two are a pair that does not hear each other, or only one
    /// of them the other.
    #[serde(default)]
    pub(super) cuts: BTreeSet<Cut>,
    /// The names of a backup's nodes that the hosts play, one after the other; empty in a lab of its own.
    #[serde(default)]
    pub(super) simulated: Vec<String>,
}

/// A registry over a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Registry {
    /// Debian's docker-registry.
    pub(super) program: PathBuf,
    /// Its storage.
    pub(super) storage: PathBuf,
}

/// A cut in the network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Cut {
    /// Between two hosts, the lesser name first.
    Pair(String, String),
    /// Between a host and everybody.
    Host(String),
    /// From one host to another: what is sent back arrives.
    OneWay {
        /// Who is not heard.
        from: String,
        /// Who does not hear it.
        to: String,
    },
}

impl Record {
    /// Reads the record of a lab; `None` when there is no such lab.
    pub(super) fn load(layout: &Layout) -> Result<Option<Self>, Error> {
        let path = layout.record();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                Error::refused(
                    format!("`{}` is damaged: {error}", path.display()),
                    format!("remove the lab: swarmctl lab down --name {}", layout.lab),
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &path)(error)),
        }
    }

    /// Reads the record of a lab that must be there.
    pub(super) fn require(layout: &Layout) -> Result<Self, Error> {
        Self::load(layout)?.ok_or_else(|| {
            Error::refused(
                format!("there is no lab `{}`", layout.lab),
                "see `swarmctl lab ls`, or make one: swarmctl lab up",
            )
        })
    }

    /// Writes the record whole.
    pub(super) fn save(&self, layout: &Layout) -> Result<(), Error> {
        let path = layout.record();
        let new = path.with_extension("new");
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::System {
            what: "encode the lab's record".to_owned(),
            source: error.into(),
        })?;
        std::fs::write(&new, text).map_err(Error::file("write", &new))?;
        std::fs::rename(&new, &path).map_err(Error::file("write", &path))
    }

    /// The hosts' names, in order.
    pub(super) fn host_names(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.hosts).map(host_name)
    }

    /// The names of the nodes that the hosts make together.
    pub(super) fn node_names(&self) -> Vec<String> {
        if self.simulated.is_empty() { self.host_names().collect() } else { self.simulated.clone() }
    }

    /// Refuses a name that is no host of this lab.
    pub(super) fn check_host(&self, host: &str) -> Result<(), Error> {
        if self.host_names().any(|name| name == host) {
            return Ok(());
        }
        let known: Vec<String> = self.host_names().collect();
        Err(Error::refused(
            format!("the lab has no host `{host}`"),
            format!("its hosts: {}", known.join(", ")),
        ))
    }

    /// Whether a host is off the network.
    pub(super) fn is_off(&self, host: &str) -> bool {
        self.cuts.contains(&Cut::Host(host.to_owned()))
    }

    /// The hosts that do not hear a host, one by one.
    pub(super) fn unheard(&self, host: &str) -> Vec<&str> {
        let deaf = self.cuts.iter().filter_map(|cut| match cut {
            Cut::Pair(a, b) if a == host => Some(b.as_str()),
            Cut::Pair(a, b) if b == host => Some(a.as_str()),
            Cut::OneWay { from, to } if from == host => Some(to.as_str()),
            _ => None,
        });
        deaf.collect()
    }
}

/// The registry for a lab: the one that was asked for, else what `tests/images/make` left beside the programs.
pub(super) fn find_registry(
    asked: Option<&Path>,
    programs: &Path,
) -> Result<Option<Registry>, Error> {
    let target = programs.parent().unwrap_or(programs);
    let made = target.join("images/registry");
    let storage = asked.unwrap_or(&made);
    if !storage.is_dir() {
        return match asked {
            None => Ok(None),
            Some(path) => Err(Error::refused(
                format!("there is no registry storage at `{}`", path.display()),
                "make the images first: just images",
            )),
        };
    }
    let storage = std::fs::canonicalize(storage).map_err(Error::file("open", storage))?;
    let beside = [storage.join("../.."), target.to_owned()]
        .map(|folder| folder.join("tools/docker-registry/usr/bin/docker-registry"));
    let program = beside
        .into_iter()
        .chain([PathBuf::from("/usr/bin/docker-registry")])
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::refused("the program docker-registry is missing", "fetch it: just images")
        })?;
    Ok(Some(Registry { program, storage }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_hold_in_both_directions_unless_they_are_one_way() {
        let mut record = Record {
            hosts: 3,
            controllers: 3,
            programs: "/".into(),
            registry: None,
            relay: Vec::new(),
            cuts: BTreeSet::new(),
            simulated: Vec::new(),
        };
        record.cuts.insert(Cut::Pair("n1".into(), "n2".into()));
        record.cuts.insert(Cut::Host("n3".into()));
        record.cuts.insert(Cut::OneWay { from: "n2".into(), to: "n3".into() });
        assert_eq!(record.unheard("n1"), ["n2"]);
        assert_eq!(record.unheard("n2"), ["n1", "n3"]);
        assert!(record.unheard("n3").is_empty());
        assert!(record.is_off("n3") && !record.is_off("n1"));
        let again: Record = serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(again, record);
        assert!(record.check_host("n4").is_err());
        assert!(record.check_host("n3").is_ok());
    }
}
