//! A backup's nodes as a lab plays them: what each begins with, without containers or networks.
//!
//! `swarmctl lab up --from-backup` makes it of a backup and writes each node's part beside the node's identity;
//! `swarm-agent simulate` reads it there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::assignment::VolumeReport;
use crate::convert::{ConvertError, Fields};
use crate::id::{Digest, NodeId, TaskId};
use crate::object::{Cluster, Node, NodeDescription, Role, Task, TaskState, TaskStatus, Volume};
use crate::spec::ServiceSpec;
use crate::version::ClusterVersion;
use crate::wire;
use crate::wire::stored_object::Object;

/// The file of a simulated node, in its state folder.
const FILE: &str = "simulation.json";

/// Why a backup cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// Its state is no message.
    #[error("its state cannot be decoded")]
    Decode(#[from] prost::DecodeError),
    /// Its state says something that no cluster can be.
    #[error("its state cannot be understood")]
    Convert(#[from] ConvertError),
    /// A newer program made it.
    #[error(
        "it is of a cluster with version {found}, and this program knows versions up to {known}"
    )]
    Newer {
        /// The backup's.
        found: ClusterVersion,
        /// The highest that this program knows.
        known: ClusterVersion,
    },
    /// There was no cluster yet.
    #[error("it holds no cluster")]
    NoCluster,
    /// Nobody has joined.
    #[error("it holds no nodes")]
    NoNodes,
}

/// What a simulated node's file is not good for.
#[derive(Debug, thiserror::Error)]
pub enum SimulatedNodeError {
    /// It could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// A cluster and its nodes as a backup holds them.
#[derive(Debug)]
pub struct Rehearsal {
    /// The cluster, with its secrets.
    pub cluster: Cluster,
    /// Its nodes: those that ran a controller first, then by identity. Never empty.
    pub nodes: Vec<(NodeId, SimulatedNode)>,
    /// How many of them ran a controller.
    pub controllers: usize,
}

/// What a simulated node begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedNode {
    /// What its agent found on the real host.
    pub description: NodeDescription,
    /// The tasks that it had begun and not ended.
    pub tasks: Vec<(TaskId, TaskStatus)>,
    /// The volumes that it held.
    pub volumes: Vec<VolumeReport>,
    /// What the names of all deployed images stood for.
    pub images: BTreeMap<String, Digest>,
}

impl Rehearsal {
    /// Reads a backup.
    pub fn of(backup: &wire::Backup) -> Result<Self, RehearsalError> {
        let snapshot = wire::StateSnapshot::decode(backup.state.as_slice())?;
        let found = ClusterVersion::from_wire(snapshot.cluster_version);
        if found > ClusterVersion::NEWEST {
            return Err(RehearsalError::Newer { found, known: ClusterVersion::NEWEST });
        }
        let cluster = snapshot.cluster.ok_or(RehearsalError::NoCluster)?.try_into()?;
        let objects = Objects::of(snapshot.objects)?;
        let mut nodes: Vec<&Node> = objects.nodes.iter().collect();
        nodes.sort_by_key(|node| (node.role != Role::Controller, node.id));
        if nodes.is_empty() {
            return Err(RehearsalError::NoNodes);
        }
        Ok(Self {
            cluster,
            controllers: nodes.iter().filter(|node| node.role == Role::Controller).count(),
            nodes: nodes.into_iter().map(|node| (node.id, objects.simulated(node))).collect(),
        })
    }
}

/// The objects of a state that nodes are played by.
#[derive(Default)]
struct Objects {
    nodes: Vec<Node>,
    tasks: Vec<Task>,
    volumes: Vec<Volume>,
    images: BTreeMap<String, Digest>,
}

impl Objects {
    fn of(stored: Vec<wire::StoredObject>) -> Result<Self, ConvertError> {
        let at = Fields("StoredObject");
        let mut objects = Self::default();
        for stored in stored {
            match stored.object.ok_or_else(|| at.refuse("object", "is not known"))? {
                Object::Node(node) => objects.nodes.push((*node).try_into()?),
                Object::Task(task) => objects.tasks.push((*task).try_into()?),
                Object::Volume(volume) => objects.volumes.push((*volume).try_into()?),
                Object::Service(service) => {
                    let service = crate::object::Service::try_from(*service)?;
                    objects.images.extend(deployed(service.spec));
                }
                Object::Stack(_) | Object::Network(_) | Object::NamedContent(_) => {}
            }
        }
        Ok(objects)
    }

    fn simulated(&self, node: &Node) -> SimulatedNode {
        let tasks = self.tasks.iter().filter(|task| task.node == Some(node.id));
        let begun =
            |status: &TaskStatus| status.state > TaskState::Assigned && !status.state.is_terminal();
        SimulatedNode {
            description: node.description.clone(),
            tasks: tasks
                .filter(|task| begun(&task.status))
                .map(|task| (task.id, task.status.clone()))
                .collect(),
            volumes: self.volumes.iter().filter_map(|volume| held(volume, node.id)).collect(),
            images: self.images.clone(),
        }
    }
}

/// What a service's image stood for when it was deployed.
fn deployed(spec: ServiceSpec) -> Option<(String, Digest)> {
    let image = spec.container.image;
    Some((image.reference, image.digest?))
}

/// A node's copy of a volume, as its agent reports it.
fn held(volume: &Volume, node: NodeId) -> Option<VolumeReport> {
    let holding = volume.holdings.get(&node)?;
    let filled_from = holding.filled_from.clone();
    Some(VolumeReport {
        id: volume.id,
        name: volume.name.clone(),
        created_at: holding.created_at,
        filled_from: filled_from.map(|filled| (filled.reference, filled.digest)),
    })
}

impl SimulatedNode {
    /// Reads what a node begins with from its state folder.
    pub fn load(state_dir: &Path) -> Result<Self, SimulatedNodeError> {
        let path = state_dir.join(FILE);
        let text = fs::read(&path)
            .map_err(|source| SimulatedNodeError::Read { path: path.clone(), source })?;
        serde_json::from_slice(&text).map_err(|source| SimulatedNodeError::Damaged { path, source })
    }

    /// Writes it there, for root only.
    pub fn save(&self, state_dir: &Path) -> Result<(), SimulatedNodeError> {
        let path = state_dir.join(FILE);
        let write = || {
            fs::create_dir_all(state_dir)?;
            let mut options = fs::File::options();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(&serde_json::to_vec(self)?)
        };
        write().map_err(|source| SimulatedNodeError::Write { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Secret;

    fn backup(snapshot: &wire::StateSnapshot) -> wire::Backup {
        wire::Backup { state: snapshot.encode_to_vec(), ..wire::Backup::default() }
    }

    #[test]
    fn what_cannot_be_played_says_why() {
        let why = |backup: &wire::Backup| Rehearsal::of(backup).unwrap_err().to_string();
        let newer = wire::StateSnapshot { cluster_version: 99, ..wire::StateSnapshot::default() };
        assert!(why(&backup(&newer)).starts_with("it is of a cluster with version 99"));
        let garbage = wire::Backup { state: vec![0xff; 9], ..wire::Backup::default() };
        assert_eq!(why(&garbage), "its state cannot be decoded");
        assert_eq!(why(&backup(&wire::StateSnapshot::default())), "it holds no cluster");
        let cluster = Cluster::new("c".into(), "certificate".into(), Secret::default());
        let cluster = Some((&cluster).into());
        let empty = wire::StateSnapshot { cluster, ..wire::StateSnapshot::default() };
        assert_eq!(why(&backup(&empty)), "it holds no nodes");
    }

    #[test]
    fn a_node_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n1");
        assert!(SimulatedNode::load(&path).unwrap_err().to_string().starts_with("cannot read"));
        let node = SimulatedNode {
            description: NodeDescription { hostname: "n1".into(), ..NodeDescription::default() },
            tasks: Vec::new(),
            volumes: Vec::new(),
            images: BTreeMap::new(),
        };
        node.save(&path).unwrap();
        assert_eq!(SimulatedNode::load(&path).unwrap(), node);
        fs::write(path.join(FILE), "{").unwrap();
        assert!(SimulatedNode::load(&path).unwrap_err().to_string().ends_with("is damaged"));
    }
}
