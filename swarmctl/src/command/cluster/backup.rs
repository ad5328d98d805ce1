//! `cluster backup`: the cluster's whole state in a file.

use std::fs::{File, remove_file};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use swarm_proto::id::Timestamp;
use swarm_proto::{backup, wire};
use tonic::Streaming;

use crate::command::Call;
use crate::connect;
use crate::failure::Failure;
use crate::output;
use crate::view;

/// Writes the cluster's state into a file, while everything runs
///
/// The file holds the cluster's secrets, the key of its certificate authority among them: whoever has it can do
/// everything with the cluster. Only root on a controller's host may make one. `swarm-controller restore FILE` makes a
/// new cluster of it. With `--stale` it is made without a quorum, of what one controller knows.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// Where to write it; it must not exist yet
    file: PathBuf,
}

pub(crate) async fn run(backup: &Backup, call: &Call) -> Result<(), Failure> {
    let path = &backup.file;
    let mut file = create(path)?;
    let written = match receive(call).await {
        Ok(bytes) => check(&bytes).and_then(|made| {
            let written = file.write_all(&bytes).and_then(|()| file.sync_all());
            written.map_err(|error| {
                Failure::because(format!("cannot write `{}`", path.display()), &error)
            })?;
            Ok((made, bytes.len()))
        }),
        Err(failure) => Err(failure),
    };
    match written {
        Ok((made, length)) => {
            let length = view::bytes(length as u64);
            output::talk(&format!(
                "backup of cluster {} as of {} in `{}` ({length}, entry {} of the log)",
                made.cluster_id,
                view::time(Timestamp(made.created_at)),
                path.display(),
                made.applied,
            ));
            output::warn(
                "it holds the cluster's secrets and the key of its authority: keep it safe",
            );
            Ok(())
        }
        Err(failure) => {
            // Half a backup is worse than none.
            let _ = remove_file(path);
            Err(failure)
        }
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

async fn receive(call: &Call) -> Result<Vec<u8>, Failure> {
    let request = wire::BackupRequest { stale: call.stale };
    let ask = async |mut client: connect::Client| client.backup(request).await;
    let mut pieces: Streaming<wire::BackupPiece> = call.cluster.call(ask).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.map_err(|status| connect::refusal(&status))? {
        bytes.extend(piece.data);
    }
    Ok(bytes)
}

/// A backup is only kept when it can be restored.
fn check(bytes: &[u8]) -> Result<wire::Backup, Failure> {
    backup::decode(bytes).map_err(|error| {
        Failure::because("what the controller sent is no backup", &error)
            .hint("try again; the connection may have been lost")
    })
}
