//! What a container leaves on disk beside its `config.json`: who it is and how it ended.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::Hierarchy;
use crate::message::SeccompChoice;

/// The record of the container's end, relative to its folder.
pub const EXIT_FILE: &str = "exit.json";
/// The record of the container's identity, relative to its folder.
pub const CONTAINER_FILE: &str = "container.json";
/// The OCI configuration, relative to the container's folder; written by the caller before creation.
pub const CONFIG_FILE: &str = "config.json";
/// The log in CRI form, relative to the container's folder; rotated to `container.log.1` and so on.
pub const LOG_FILE: &str = "container.log";
/// The control socket of the shim, relative to the container's folder.
pub const SOCKET_FILE: &str = "shim.sock";
/// The mount point of the root file system inside the container's own mount namespace.
pub const ROOTFS_DIR: &str = "rootfs";

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ContainerStatus {
    /// Set up, and waiting for `start` before its program runs.
    Created {
        /// The process id of the container's first process, as the host sees it.
        pid: i32,
    },
    /// The program runs.
    Running {
        /// The process id of the container's first process, as the host sees it.
        pid: i32,
        /// When the program began, in milliseconds since the Unix epoch.
        started_at_ms: u64,
    },
    /// The program ended, could not be started, or was lost with its shim.
    Exited(ExitRecord),
}

/// How a container ended; kept in `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The exit code as a shell tells it: the program's own, or 128 + n after signal n; 127 and 126
    /// when the program could not be found or run.
    pub code: i32,
    /// The signal that ended the program, if one did.
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// When the program began, in milliseconds since the Unix epoch; none when it never did.
    pub started_at_ms: Option<u64>,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_at_ms: u64,
    /// Why it ended, when that was not the program's own doing ("exec `x`: no such file …", "its shim
    /// was killed").
    pub message: Option<String>,
}

/// Who a container is; kept in `container.json` so that it can be found and removed without its shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The caller's name for the container.
    pub id: String,
    /// The process id of the container's first process.
    pub pid: i32,
    /// The process id of the shim.
    pub shim_pid: i32,
    /// The container's control group in every hierarchy it joined.
    pub cgroups: Vec<Hierarchy>,
    /// The user it was created with, for further programs in it.
    #[serde(default)]
    pub user: Option<String>,
    /// The filter it was created with, likewise.
    #[serde(default)]
    pub seccomp: SeccompChoice,
    /// The groups it was given besides its user's, likewise.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Whether it is without process ids of its own: its processes do not end with the first.
    #[serde(default)]
    pub shares_processes: bool,
}

/// A record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("`{}` is not a valid record", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file could not be written.
    #[error("could not write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads a record; `None` when the file does not exist.
pub fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, RecordError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Read { path: path.to_owned(), source }),
    };
    let record = serde_json::from_slice(&bytes)
        .map_err(|source| RecordError::Parse { path: path.to_owned(), source })?;
    Ok(Some(record))
}

/// Writes a record so that a reader sees the old one or the new one, never a part. With `durable` it
/// also survives a power cut once this returns.
pub fn write<T: Serialize>(path: &Path, record: &T, durable: bool) -> Result<(), RecordError> {
    write_bytes(path, record, durable)
        .map_err(|source| RecordError::Write { path: path.to_owned(), source })
}

fn write_bytes<T: Serialize>(path: &Path, record: &T, durable: bool) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    if durable && let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EXIT_FILE);
        assert!(read::<ExitRecord>(&path).unwrap().is_none());
        let record = ExitRecord {
            code: 137,
            signal: Some(9),
            oom_killed: true,
            started_at_ms: Some(1),
            finished_at_ms: 2,
            message: None,
        };
        write(&path, &record, true).unwrap();
        assert_eq!(read(&path).unwrap(), Some(record));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_torn_record_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EXIT_FILE);
        fs::write(&path, b"{\"code\":").unwrap();
        let error = read::<ExitRecord>(&path).unwrap_err();
        assert!(error.to_string().contains("exit.json"), "{error}");
    }
}
