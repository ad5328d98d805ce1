//! A host's identity on disk, shared by its controller and its agent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tls::fit;
use super::{Credentials, TlsError};
use crate::id::{NodeId, RaftId};
use crate::object::{Role, Secret};

const CERTIFICATE: &str = "node.crt";
const KEY: &str = "node.key";
/// The key of the certificate that is about to be written; [`Identity::load`] takes it when a crash came between the two.
const NEXT_KEY: &str = "node.key.next";
const ROOT: &str = "ca.crt";
const FACTS: &str = "identity.json";

/// Why an identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("could not write `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `identity.json` is not what was written.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Certificate or key cannot be read.
    #[error("the certificate in `{}` cannot be used", folder.display())]
    Certificate {
        /// The identity's folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// Certificate and key are of different origin.
    #[error("certificate and key in `{}` do not belong together", folder.display())]
    Mismatch {
        /// The identity's folder.
        folder: PathBuf,
    },
}

/// Who this host is in which cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: String,
    /// The node.
    pub node_id: NodeId,
    /// Its member of the Raft group, when it is a controller.
    pub raft_id: Option<RaftId>,
    /// What it is.
    pub role: Role,
    /// `host:port` of the controllers that were known last.
    pub controllers: Vec<String>,
    /// The node's certificate, PEM; behind it the intermediate by which it stems from a former root, too.
    pub certificate_pem: String,
    /// Its private key, PEM.
    pub key_pem: Secret,
    /// The cluster's root certificates, PEM; the one that the certificate stems from first.
    pub ca_pem: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    cluster_id: String,
    node_id: NodeId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raft_id: Option<RaftId>,
    role: Role,
    controllers: Vec<String>,
}

impl Identity {
    /// The folder of a state folder's identity.
    pub fn folder(state_dir: &Path) -> PathBuf {
        state_dir.join("identity")
    }

    /// Reads the identity below a state folder; `None` when the host has not joined yet.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let folder = Self::folder(state_dir);
        // Between certificate and key another program of the host must not renew both.
        let _shared = match File::open(&folder).and_then(|open| open.lock_shared().map(|()| open)) {
            Ok(locked) => locked,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Read { path: folder, source }),
        };
        // Written last: without it there is no identity yet.
        let Some(facts) = Facts::read(&folder)? else { return Ok(None) };
        let certificate_pem = read(&folder, CERTIFICATE)?;
        let key_pem = fitting_key(&folder, &certificate_pem)?;
        Ok(Some(Self {
            cluster_id: facts.cluster_id,
            node_id: facts.node_id,
            raft_id: facts.raft_id,
            role: facts.role,
            controllers: facts.controllers,
            certificate_pem,
            key_pem,
            ca_pem: read(&folder, ROOT)?,
        }))
    }

    /// Writes the identity below a state folder. After a crash at any point there is the old identity or the new one.
    pub fn save(&self, state_dir: &Path) -> Result<(), IdentityError> {
        let folder = Self::folder(state_dir);
        let failed = |source| IdentityError::Write { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        // Controller and agent of a host may renew at once: the files of one write belong together.
        let _alone = alone(&folder)?;
        write(&folder, ROOT, &self.ca_pem, 0o644)?;
        write(&folder, NEXT_KEY, self.key_pem.reveal(), 0o600)?;
        write(&folder, CERTIFICATE, &self.certificate_pem, 0o644)?;
        fs::rename(folder.join(NEXT_KEY), folder.join(KEY))
            .and_then(|()| sync_folder(&folder))
            .map_err(failed)?;
        self.facts().write(&folder)
    }

    /// Remembers another list of controllers, in memory and on disk. Says whether it was another. The rest stays on disk as
    /// it is: another program of the host may have made it another since this identity was read.
    pub fn update_controllers(
        &mut self,
        state_dir: &Path,
        controllers: &[String],
    ) -> Result<bool, IdentityError> {
        if self.controllers == controllers {
            return Ok(false);
        }
        self.controllers = controllers.to_vec();
        let folder = Self::folder(state_dir);
        let _alone = alone(&folder)?;
        let present = Facts::read(&folder)?.unwrap_or_else(|| self.facts());
        Facts { controllers: controllers.to_vec(), ..present }.write(&folder)?;
        Ok(true)
    }

    /// Takes the list of controllers that another program of the host has written down since, unless the host belongs to
    /// another cluster by now, or to none.
    pub fn look_up_controllers(&mut self, state_dir: &Path) -> Result<(), IdentityError> {
        let present = Facts::read(&Self::folder(state_dir))?;
        if let Some(present) = present.filter(|present| present.cluster_id == self.cluster_id) {
            self.controllers = present.controllers;
        }
        Ok(())
    }

    /// What TLS needs of it.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            certificate_pem: self.certificate_pem.clone(),
            key_pem: self.key_pem.clone(),
            ca_pem: self.ca_pem.clone(),
        }
    }

    /// The same host with another certificate.
    #[must_use]
    pub fn renewed(self, credentials: Credentials) -> Self {
        let Credentials { certificate_pem, key_pem, ca_pem } = credentials;
        Self { certificate_pem, key_pem, ca_pem, ..self }
    }

    fn facts(&self) -> Facts {
        Facts {
            cluster_id: self.cluster_id.clone(),
            node_id: self.node_id,
            raft_id: self.raft_id,
            role: self.role,
            controllers: self.controllers.clone(),
        }
    }
}

impl Facts {
    /// What is on disk; `None` when there is no identity.
    fn read(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let path = folder.join(FACTS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Read { path, source }),
        };
        let facts = serde_json::from_str(&text);
        facts.map(Some).map_err(|source| IdentityError::Damaged { path, source })
    }

    fn write(&self, folder: &Path) -> Result<(), IdentityError> {
        let text = serde_json::to_string_pretty(self).expect("plain fields become JSON");
        write(folder, FACTS, &format!("{text}\n"), 0o644)
    }
}

/// Keeps other programs of the host from reading and writing an identity while the file that is answered stays open.
fn alone(folder: &Path) -> Result<File, IdentityError> {
    let locked = File::open(folder).and_then(|open| open.lock().map(|()| open));
    locked.map_err(|source| IdentityError::Write { path: folder.to_owned(), source })
}

fn fitting_key(folder: &Path, certificate_pem: &str) -> Result<Secret, IdentityError> {
    let unusable = |source| IdentityError::Certificate { folder: folder.to_owned(), source };
    for name in [KEY, NEXT_KEY] {
        let path = folder.join(name);
        let key = match fs::read_to_string(&path) {
            Ok(key) => Secret::new(key),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(IdentityError::Read { path, source }),
        };
        if fit(certificate_pem, key.reveal()).map_err(unusable)? {
            return Ok(key);
        }
    }
    Err(IdentityError::Mismatch { folder: folder.to_owned() })
}

fn read(folder: &Path, name: &str) -> Result<String, IdentityError> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|source| IdentityError::Read { path, source })
}

/// Writes a file whole or not at all, also when the power goes.
fn write(folder: &Path, name: &str, content: &str, mode: u32) -> Result<(), IdentityError> {
    let path = folder.join(name);
    // Controller and agent of a host may both write: each its own temporary file.
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_folder(folder)
    };
    write().map_err(|source| IdentityError::Write { path, source })
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
