//! `force-new-cluster`: a cluster of one from the disk of the last controller that is left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swarm_proto::id::Timestamp;
use swarm_proto::object::Role;
use swarm_proto::transport::{
    AuthorityError, Identity, IdentityError, connect_unix, random_number,
};
use zeroize::Zeroizing;

use super::disk::{DiskError, DiskStore, Store as _};
use super::seal::{DataKey, UnlockKey};
use crate::config::Config;
use crate::core::{StartError, survive};

/// Why no new cluster was made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SurvivorError {
    /// It was not confirmed.
    #[error(
        "this gives up every other controller of the cluster, and what only they know\n\nhint: where the others are lost for good, say so: --i-know-the-others-are-lost; where a majority can be started again, start it instead"
    )]
    Unconfirmed,
    /// The host was no controller.
    #[error("this host runs no controller of a cluster")]
    NotController,
    /// Its controller runs.
    #[error(
        "the controller of this host is running\n\nhint: stop it first: systemctl stop swarm-controller"
    )]
    Running,
    /// The old log could not be kept.
    #[error("cannot copy {} to {}", from.display(), to.display())]
    Backup {
        /// What.
        from: PathBuf,
        /// Where.
        to: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cluster is locked.
    #[error("this controller is locked\n\nhint: give the cluster's unlock key on standard input")]
    UnlockKey,
    /// The system gives no random numbers.
    #[error(transparent)]
    Random(#[from] AuthorityError),
    /// The identity could not be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The disk cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What the disk holds cannot be used.
    #[error(transparent)]
    Core(#[from] StartError),
}

/// What was done.
#[derive(Debug)]
pub struct NewCluster {
    /// Where the old log is kept.
    pub backup: PathBuf,
    /// The nodes whose controllers are given up.
    pub given_up: Vec<String>,
}

/// Makes the survivor the only controller. The state stays, and all nodes.
pub async fn force_new_cluster(
    config: &Config,
    confirmed: bool,
) -> Result<NewCluster, SurvivorError> {
    let identity = Identity::load(&config.state_dir)?;
    let identity = identity.filter(|identity| identity.role == Role::Controller);
    let mut identity = identity.ok_or(SurvivorError::NotController)?;
    if connect_unix(&config.socket()).await.is_ok() {
        return Err(SurvivorError::Running);
    }
    if !confirmed {
        return Err(SurvivorError::Unconfirmed);
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let raft_dir = config.raft_dir();
    let unlock = unlock_key(&raft_dir)?;
    let opened = DiskStore::open_unlocked(&raft_dir, Duration::ZERO, unlock.as_ref());
    let (store, recovered) = opened.map_err(|error| match error {
        DiskError::Locked { .. } => SurvivorError::Running,
        other => other.into(),
    })?;
    let survivor = survive(&recovered, identity.node_id, now, random_number()?)?;
    // Copied while nobody has it open, and opened again for the change.
    drop(store);
    let backup = config.state_dir.join(format!("controller.before-{}", since.as_secs()));
    copy(&raft_dir, &backup)?;
    let opened = DiskStore::open_unlocked(&raft_dir, super::disk::LOCK_PATIENCE, unlock.as_ref());
    let (mut store, _) = opened?;
    store.write(&[survivor.batch])?;
    drop(store);
    identity.raft_id = Some(survivor.raft_id);
    identity.save(&config.state_dir)?;
    Ok(NewCluster { backup, given_up: survivor.given_up })
}

/// The unlock key of a locked cluster, from standard input.
fn unlock_key(raft_dir: &Path) -> Result<Option<UnlockKey>, SurvivorError> {
    if !DataKey::is_wrapped(raft_dir).map_err(DiskError::from)? {
        return Ok(None);
    }
    let mut text = Zeroizing::new(String::new());
    let read = io::stdin().read_line(&mut text);
    let key = read.ok().and_then(|_| UnlockKey::parse(&text));
    key.map(Some).ok_or(SurvivorError::UnlockKey)
}

fn copy(from: &Path, to: &Path) -> Result<(), SurvivorError> {
    copy_tree(from, to).map_err(|source| SurvivorError::Backup {
        from: from.to_owned(),
        to: to.to_owned(),
        source,
    })
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::File::open(&target)?.sync_all()?;
        }
    }
    fs::File::open(to)?.sync_all()
}
