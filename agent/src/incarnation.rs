//! The latest incarnation of the cluster of which this host has heard: controllers of an earlier one, which was given up
//! when a backup was restored or a new cluster forced, are not believed any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use swarm_proto::object::Incarnation;

use crate::durable;

/// The file, in the agent's folder: the cluster's id and the incarnation.
const FILE: &str = "incarnation";

/// Why a controller is not believed, or the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IncarnationError {
    /// The controller is of an earlier one.
    #[error(
        "the controller belongs to the cluster's incarnation {told}, and this host has heard of a later one, {latest}\n\nhint: the cluster was restored from a backup, or forced anew: stop that controller, and join its host anew"
    )]
    Earlier {
        /// What the controller says.
        told: Incarnation,
        /// The latest.
        latest: Incarnation,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{} is damaged\n\nhint: where no controller from before a restore still runs, remove it",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Latest {
    path: PathBuf,
    cluster: String,
    incarnation: Incarnation,
}

impl Latest {
    /// What this host knows of its cluster. What it knew of another one, to which it belonged before, says nothing.
    pub fn open(folder: &Path, cluster: &str) -> Result<Self, IncarnationError> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(IncarnationError::Read { path, source }),
        };
        let incarnation = match text.trim_end().split_once(' ') {
            None if text.is_empty() => Incarnation::default(),
            Some((of, known)) if of == cluster => {
                known.parse().map_err(|_| IncarnationError::Damaged { path: path.clone() })?
            }
            Some(_) => Incarnation::default(),
            None => return Err(IncarnationError::Damaged { path }),
        };
        Ok(Self { path, cluster: cluster.to_owned(), incarnation })
    }

    /// The latest.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Refuses an earlier one. A later one is the latest from now on; durable on return.
    pub fn hear(&mut self, told: Incarnation) -> Result<(), IncarnationError> {
        let latest = self.incarnation;
        if told < latest {
            return Err(IncarnationError::Earlier { told, latest });
        }
        if told > latest {
            let text = format!("{} {told}\n", self.cluster);
            durable::write(&self.path, text.as_bytes())
                .map_err(|source| IncarnationError::Write { path: self.path.clone(), source })?;
            self.incarnation = told;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64, mark: u64) -> Incarnation {
        Incarnation { number, mark }
    }

    #[test]
    fn an_earlier_incarnation_is_refused_after_a_restart_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut latest = Latest::open(folder.path(), "c").unwrap();
        latest.hear(at(0, 0)).unwrap();
        assert!(!folder.path().join(FILE).exists(), "nothing to remember of version 0.1.0");
        latest.hear(at(2, 5)).unwrap();
        latest.hear(at(2, 5)).unwrap();
        for mut knows in [latest, Latest::open(folder.path(), "c").unwrap()] {
            assert_eq!(knows.incarnation(), at(2, 5));
            for earlier in [at(0, 0), at(1, 9), at(2, 4)] {
                let refused = knows.hear(earlier).unwrap_err();
                assert!(matches!(refused, IncarnationError::Earlier { .. }), "{refused}");
            }
        }
        let mut again = Latest::open(folder.path(), "c").unwrap();
        again.hear(at(2, 6)).unwrap();
        assert!(again.hear(at(2, 5)).is_err(), "of two restores of one backup, one counts");
        let other = Latest::open(folder.path(), "another").unwrap();
        assert_eq!(other.incarnation(), Incarnation::default());
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        for damaged in ["c", "c 1", "c x\n", "\n"] {
            fs::write(folder.path().join(FILE), damaged).unwrap();
            let refused = Latest::open(folder.path(), "c").unwrap_err();
            assert!(matches!(refused, IncarnationError::Damaged { .. }), "{damaged}: {refused}");
        }
    }
}
