//! A lab that plays a backup: its controllers begin with the backed-up state, and its hosts' agents simulate the nodes.
//!
//! The backup holds the key of the cluster's authority, so every node gets a certificate of its own here. The node of
//! the first controller restores; further controllers join as the nodes that they were.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use swarm_proto::backup::{self, ReadBackupError};
use swarm_proto::failure::sentence;
use swarm_proto::id::{NodeId, Timestamp};
use swarm_proto::object::Role;
use swarm_proto::rehearsal::{Rehearsal, RehearsalError};
use swarm_proto::transport::{Authority, Identity};
use swarm_proto::wire;

use super::error::Error;
use super::layout::{Layout, host_address, host_name};
use super::record::Record;
use super::up::{join_as, program, start_programs, token};
use super::{enter, host};
use crate::view;

/// Hosts of a lab where nobody says how many: each runs programs of its own, and may play several nodes.
const HOSTS: usize = 5;

/// A backup that shall be played.
pub(super) struct Backup {
    path: PathBuf,
    content: wire::Backup,
    rehearsal: Rehearsal,
}

impl Backup {
    /// Reads a backup's file whole, with the file of its key where that does not lie beside it, and refuses one that
    /// cannot be played.
    pub(super) fn read(path: &Path, key: Option<&Path>) -> Result<Self, Error> {
        let refused = |error: &dyn std::error::Error, hint: &str| {
            Error::refused(
                format!("`{}` cannot be played: {}", path.display(), sentence(error)),
                hint,
            )
        };
        let content = backup::read(path, key).map_err(|error| match error {
            ReadBackupError::Content(_) => {
                refused(&error, "make another: swarmctl cluster backup FILE")
            }
            ReadBackupError::File(_) | ReadBackupError::Key(_) => refused(&error, ""),
        })?;
        let rehearsal = Rehearsal::of(&content).map_err(|error| match error {
            RehearsalError::Newer { .. } => {
                refused(&error, "use the programs of the release that the cluster runs: --programs")
            }
            _ => refused(&error, "make another: swarmctl cluster backup FILE"),
        })?;
        Ok(Self { path: path.to_owned(), content, rehearsal })
    }

    /// How many hosts and controllers a lab has for it where nobody says.
    pub(super) fn size(&self) -> (u8, u8) {
        let hosts = self.rehearsal.nodes.len().min(HOSTS);
        let controllers = self.rehearsal.controllers.clamp(1, hosts);
        // Both are at most HOSTS.
        (u8::try_from(hosts).unwrap_or(1), u8::try_from(controllers).unwrap_or(1))
    }

    /// The names of its nodes, in the order in which hosts play them.
    pub(super) fn node_names(&self) -> Vec<String> {
        let nodes = self.rehearsal.nodes.iter();
        nodes.map(|(_, node)| node.description.hostname.clone()).collect()
    }

    /// What is played, for a person: a line, and one for each host.
    pub(super) fn describe(&self, record: &Record) -> String {
        let mut text = format!(
            "it plays cluster {} as of {}, of `{}`:",
            self.rehearsal.cluster.id,
            view::time(Timestamp(self.content.created_at)),
            self.path.display()
        );
        for number in 1..=record.hosts {
            let names = record.simulated.iter().enumerate();
            let own = names.filter(|(index, _)| host_of(*index, record.hosts) == number);
            let own: Vec<&str> = own.map(|(_, name)| name.as_str()).collect();
            // Writing to a string cannot fail.
            let _ = write!(text, "\n  {} plays {}", host_name(number), own.join(", "));
        }
        text
    }

    /// Whether its controllers keep the keys of their disks wrapped.
    pub(super) fn is_locked(&self) -> bool {
        self.rehearsal.cluster.unlock_key.is_some()
    }

    /// Gives the hosts, which are on and new, their nodes' identities and begins the cluster. All programs run then.
    pub(super) fn begin(&self, layout: &Layout, record: &Record) -> Result<(), Error> {
        self.write_nodes(layout, record)?;
        self.restore(layout, record)?;
        start_programs(layout, &host_name(1))?;
        if record.controllers > 1 {
            let token = token(layout, record, "controller")?;
            for number in 2..=record.controllers {
                join(layout, record, number, &token)?;
            }
        }
        for number in record.controllers + 1..=record.hosts {
            start_programs(layout, &host_name(number))?;
        }
        Ok(())
    }

    fn write_nodes(&self, layout: &Layout, record: &Record) -> Result<(), Error> {
        let authority = Authority::of(&self.rehearsal.cluster).map_err(|error| self.bad(&error))?;
        for (index, (id, node)) in self.rehearsal.nodes.iter().enumerate() {
            let disk = layout.host(&host_name(host_of(index, record.hosts)), "lib");
            let folder = if index < usize::from(record.hosts) {
                disk
            } else {
                disk.join("simulated").join(id.to_string())
            };
            let identity = self.identity(&authority, *id)?;
            node.save(&folder).map_err(|error| self.bad(&error))?;
            identity.save(&folder).map_err(|error| self.bad(&error))?;
        }
        Ok(())
    }

    fn identity(&self, authority: &Authority, node: NodeId) -> Result<Identity, Error> {
        let made = authority.make_node(node, Role::Agent, SystemTime::now());
        let made = made.map_err(|error| self.bad(&error))?;
        Ok(Identity {
            cluster_id: self.rehearsal.cluster.id.clone(),
            node_id: node,
            raft_id: None,
            role: Role::Agent,
            controllers: vec![format!("{}:2377", host_address(1))],
            certificate_pem: made.certificate_pem,
            key_pem: made.key_pem,
            ca_pem: made.ca_pem,
        })
    }

    /// Makes the first host the cluster's only controller, as the node that it plays.
    fn restore(&self, layout: &Layout, record: &Record) -> Result<(), Error> {
        let first = host_name(1);
        let copy = layout.host(&first, "lib").join("backup");
        let mut options = fs::File::options();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&copy);
        opened
            .and_then(|mut file| {
                std::io::Write::write_all(&mut file, &backup::encode(&self.content))
            })
            .map_err(Error::file("write", &copy))?;
        let process = host::require_on(layout, &first)?;
        let command = [program(record, "swarm-controller"), "restore".to_owned()];
        let command = [&command[..], &["/var/lib/swarm/backup".to_owned()]].concat();
        enter::output(process, &first, &command)?;
        fs::remove_file(&copy).map_err(Error::file("remove", &copy))
    }

    fn bad(&self, error: &dyn std::error::Error) -> Error {
        let path = self.path.display();
        Error::refused(format!("`{path}` cannot be played: {}", sentence(error)), "")
    }
}

/// The number of the host that plays a node.
fn host_of(index: usize, hosts: u8) -> u8 {
    // Less than `hosts` before one is added.
    u8::try_from(index % usize::from(hosts)).unwrap_or_default() + 1
}

/// Makes a host a controller again, as the node that it plays, and starts its programs.
fn join(layout: &Layout, record: &Record, number: u8, token: &str) -> Result<(), Error> {
    let disk = layout.host(&host_name(number), "lib");
    join_as(
        layout,
        record,
        number,
        ("swarm-controller", token),
        || matches!(Identity::load(&disk), Ok(Some(known)) if known.role == Role::Controller),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_spread_over_the_hosts() {
        let hosts: Vec<u8> = (0..7).map(|index| host_of(index, 3)).collect();
        assert_eq!(hosts, [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn what_is_no_backup_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        let refusal = |path: &Path| match Backup::read(path, None) {
            Err(error) => crate::failure::Failure::from(error),
            Ok(_) => panic!("{} was taken", path.display()),
        };
        assert!(refusal(&path).message.contains("backup` cannot be played: cannot read it: "));
        fs::write(&path, "version: 3\n").unwrap();
        let said = refusal(&path);
        assert!(
            said.message.ends_with("backup` cannot be played: it is not a backup of a cluster")
        );
        assert_eq!(said.hint.as_deref(), Some("make another: swarmctl cluster backup FILE"));
        let empty = wire::Backup::default();
        fs::write(&path, backup::encode(&empty)).unwrap();
        assert!(refusal(&path).message.ends_with("cannot be played: it holds no cluster"));
        let mut cut = backup::encode(&empty);
        cut.pop();
        fs::write(&path, cut).unwrap();
        assert!(refusal(&path).message.contains("cannot be played: it is cut off"));
    }
}
