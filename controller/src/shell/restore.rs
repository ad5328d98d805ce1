//! `restore`: makes a new cluster out of a backup, with this host as its only controller.
//!
//! The cluster keeps its identity, its authority and its tokens, so hosts that belonged to it come back by themselves
//! and go on with the containers that run. The Raft group is a new one. Hosts that ran controllers are agents from now
//! on; they may be let in as controllers again.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use swarm_proto::backup::{self, ReadBackupError};
use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::object::{Cluster, Role};
use swarm_proto::transport::{Authority, Identity, random_number};
use swarm_proto::wire;

use super::disk::{DiskStore, Store as _};
use super::setup::{self, SetupError};
use crate::config::Config;
use crate::core::{self, RestoringHost, StartError};

/// Why nothing was restored. Nothing was changed either.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It cannot be read, or is no backup, or no whole one.
    #[error("{} cannot be restored", path.display())]
    Backup {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ReadBackupError,
    },
    /// What it holds makes no cluster.
    #[error("{} cannot be restored", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: StartError,
    },
    /// It is of a cluster that was never made.
    #[error("{} holds no cluster", .0.display())]
    NoCluster(PathBuf),
    /// The host belongs to another cluster.
    #[error(
        "this host is node {node} of cluster {cluster}, and the backup is of cluster {of}\n\nhint: restore on a host of that cluster, or on one without a cluster"
    )]
    OtherCluster {
        /// The host's.
        cluster: String,
        /// As which node.
        node: NodeId,
        /// The backup's.
        of: String,
    },
    /// The host joined after the backup was made.
    #[error(
        "the backup knows no node {node}: this host joined its cluster after the backup was made\n\nhint: restore on another host, or stop this one's programs and remove {}", state_dir.display()
    )]
    UnknownNode {
        /// As which node.
        node: NodeId,
        /// What holds its identity.
        state_dir: PathBuf,
    },
    /// As with `init`.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// What was restored.
#[derive(Debug, PartialEq, Eq)]
pub struct Restored {
    /// The cluster.
    pub cluster: String,
    /// This host's node.
    pub node: NodeId,
    /// When the backup was made.
    pub made_at: SystemTime,
    /// How many nodes the cluster has, this one included.
    pub nodes: usize,
    /// Whether no quorum had confirmed what was backed up.
    pub stale: bool,
}

/// Restores a backup, with the file of its key where that does not lie beside it. Nothing is changed unless all of it
/// can be.
pub fn restore(
    config: &Config,
    (file, key): (&Path, Option<&Path>),
    advertise: Option<&str>,
) -> Result<Restored, RestoreError> {
    let refused = |source| RestoreError::Backup { path: file.to_owned(), source };
    let backup = backup::read(file, key).map_err(refused)?;
    let raft_dir = config.raft_dir();
    if raft_dir.exists() {
        return Err(SetupError::Leftover { path: raft_dir }.into());
    }
    let host = restoring_host(config, &backup)?;
    let address = setup::advertised(config, advertise)?;
    let when = (setup::now(), random_number().map_err(SetupError::from)?);
    let begun = core::restore(&backup.state, backup.term, &host, &address, when);
    let begun = begun.map_err(|source| RestoreError::State { path: file.to_owned(), source })?;
    let begun = begun.ok_or_else(|| RestoreError::UnknownNode {
        node: if let RestoringHost::Known(node) = host { node } else { NodeId(0) },
        state_dir: config.state_dir.clone(),
    })?;
    let cluster = begun.state.cluster.clone();
    let cluster = cluster.ok_or_else(|| RestoreError::NoCluster(file.to_owned()))?;
    let identity = identity(config, &cluster, (begun.node, begun.raft_id), address)?;
    let (mut store, _) = DiskStore::open(&raft_dir).map_err(SetupError::from)?;
    store.write(&[begun.batch]).map_err(SetupError::from)?;
    // Its lock must be free before the identity tells `run` to start.
    drop(store);
    identity.save(&config.state_dir).map_err(SetupError::from)?;
    Ok(Restored {
        cluster: cluster.id.clone(),
        node: begun.node,
        made_at: SystemTime::UNIX_EPOCH + Duration::from_millis(backup.created_at),
        nodes: begun.state.nodes.len(),
        stale: backup.stale,
    })
}

/// Who this host is to the backup's cluster.
fn restoring_host(config: &Config, backup: &wire::Backup) -> Result<RestoringHost, RestoreError> {
    match Identity::load(&config.state_dir).map_err(SetupError::from)? {
        Some(known) if known.cluster_id != backup.cluster_id => Err(RestoreError::OtherCluster {
            cluster: known.cluster_id,
            node: known.node_id,
            of: backup.cluster_id.clone(),
        }),
        Some(known) => Ok(RestoringHost::Known(known.node_id)),
        None => Ok(RestoringHost::New(setup::hostname()?)),
    }
}

/// A new identity of a controller, with a key of its own.
fn identity(
    config: &Config,
    cluster: &Cluster,
    (node, raft_id): (NodeId, RaftId),
    address: String,
) -> Result<Identity, SetupError> {
    let authority = Authority::of(cluster)?.with_life(config.signing().life);
    let made = authority.make_node(node, Role::Controller, SystemTime::now())?;
    Ok(Identity {
        cluster_id: cluster.id.clone(),
        node_id: node,
        raft_id: Some(raft_id),
        role: Role::Controller,
        controllers: vec![address],
        certificate_pem: made.certificate_pem,
        key_pem: made.key_pem,
        ca_pem: made.ca_pem,
    })
}
