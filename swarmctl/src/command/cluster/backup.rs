//! `cluster backup`: the cluster's whole state in a file.

use std::fs::{File, remove_file};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use swarm_proto::backup::{self, BackupKey};
use swarm_proto::id::Timestamp;
use swarm_proto::wire;
use tonic::Streaming;

use crate::command::Call;
use crate::connect;
use crate::failure::Failure;
use crate::output;
use crate::view;

/// Writes the cluster's state into a file, while everything runs
///
/// The state holds the cluster's secrets, the key of its certificate authority among them, so the file is sealed. Whoever
/// has it and its key can do everything with the cluster: keep them apart. Only root on a controller's host may make one.
/// `swarm-controller restore FILE` makes a new cluster of it. With `--stale` it is made without a quorum, of what one
/// controller knows.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// Where to write it; it must not exist yet
    file: PathBuf,
    /// The file with the key that seals it; made where there is none [default: `FILE.key`]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Do not seal it: whoever reads the file has the cluster
    #[arg(long, conflicts_with = "key_file")]
    plain: bool,
}

pub(crate) async fn run(options: &Backup, call: &Call) -> Result<(), Failure> {
    let path = &options.file;
    let key = if options.plain { None } else { Some(SealedBy::of(options)?) };
    let mut file = create(path)?;
    let written = match receive(call).await {
        Ok(made) => write(&mut file, path, &made, key.as_ref()).map(|length| (made, length)),
        Err(failure) => Err(failure),
    };
    match written {
        Ok((made, length)) => {
            tell(options, &made, length, key.as_ref());
            Ok(())
        }
        Err(failure) => {
            // Half a backup is worse than none.
            let _ = remove_file(path);
            Err(failure)
        }
    }
}

/// The key of a backup, and where it lies.
struct SealedBy {
    key: BackupKey,
    path: PathBuf,
    is_new: bool,
}

impl SealedBy {
    fn of(options: &Backup) -> Result<Self, Failure> {
        let path = options.key_file.clone().unwrap_or_else(|| backup::key_file(&options.file));
        let known = backup::read_key(&path)
            .map_err(|error| Failure::because("no backup was made", &error))?;
        let is_new = known.is_none();
        let key = match known {
            Some(key) => key,
            None => BackupKey::make()
                .map_err(|error| Failure::because("cannot make a key for the backup", &error))?,
        };
        Ok(Self { key, path, is_new })
    }
}

/// Writes the key first, where it is new: no backup is ever there without its key. Gives back the file's length.
fn write(
    file: &mut File,
    path: &Path,
    made: &wire::Backup,
    key: Option<&SealedBy>,
) -> Result<u64, Failure> {
    if let Some(sealed_by) = key.filter(|key| key.is_new) {
        backup::write_key(&sealed_by.path, &sealed_by.key)
            .map_err(|error| Failure::because("no backup was made", &error))?;
    }
    let bytes = match key {
        Some(sealed_by) => backup::seal(made, &sealed_by.key),
        None => backup::encode(made),
    };
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // A key that was made for it opens nothing else.
        if let Some(sealed_by) = key.filter(|key| key.is_new) {
            let _ = remove_file(&sealed_by.path);
        }
        Failure::because(format!("cannot write `{}`", path.display()), &error)
    })?;
    Ok(bytes.len() as u64)
}

fn tell(options: &Backup, made: &wire::Backup, length: u64, key: Option<&SealedBy>) {
    output::talk(&format!(
        "backup of cluster {} as of {} in `{}` ({}, entry {} of the log)",
        made.cluster_id,
        view::time(Timestamp(made.created_at)),
        options.file.display(),
        view::bytes(length),
        made.applied,
    ));
    match key {
        Some(SealedBy { path, is_new, .. }) => {
            let made = if *is_new { "only the new key in" } else { "only the key in" };
            output::talk(&format!(
                "{made} `{}` opens it: keep both safe, and apart",
                path.display()
            ));
        }
        None => output::warn(
            "it holds the cluster's secrets and the key of its authority, open to whoever reads it: keep it safe",
        ),
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::refused(format!("`{}` exists already", path.display()))
                .hint("name a new file: a backup never replaces one")
        }
        _ => Failure::because(format!("cannot make `{}`", path.display()), &error),
    })
}

/// A backup is only taken when it can be restored.
async fn receive(call: &Call) -> Result<wire::Backup, Failure> {
    let request = wire::BackupRequest { stale: call.stale };
    let ask = async |mut client: connect::Client| client.backup(request).await;
    let mut pieces: Streaming<wire::BackupPiece> = call.cluster.call(ask).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.map_err(|status| connect::refusal(&status))? {
        bytes.extend(piece.data);
    }
    backup::decode(&bytes, None).map_err(|error| {
        Failure::because("what the controller sent is no backup", &error)
            .hint("try again; the connection may have been lost")
    })
}
