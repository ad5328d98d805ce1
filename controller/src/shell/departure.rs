//! The end of a controller that is none any more: it learns that from its own log, or from another controller that
//! turns it away, and then stops for good.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::object::{Cluster, Role};
use swarm_proto::transport::{Authority, AuthorityError, Departure, Identity, IdentityError};

use super::hub::{Hub, View};
use crate::config::Config;

/// Why a demoted controller's host could not be made an agent's.
#[derive(Debug, thiserror::Error)]
pub enum DepartureError {
    /// The new certificate could not be made.
    #[error("cannot make this host an agent's certificate")]
    Authority(#[from] AuthorityError),
    /// The new identity could not be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log could not be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log could not be put aside.
    #[error("cannot rename {} to {}", from.display(), to.display())]
    PutAside {
        /// Which folder.
        from: PathBuf,
        /// Its new name.
        to: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Waits until this controller is none any more.
pub async fn departed(hub: &Hub, node: NodeId, raft_id: RaftId) -> Departure {
    let mut views = hub.follow();
    loop {
        let departure = departure(&views.borrow_and_update(), node, raft_id);
        if let Some(departure) = departure {
            return departure;
        }
        if views.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One that the group still needs stays, so that it can be let go. One that the state has never known has not been let
/// in.
fn departure(view: &View, node: NodeId, raft_id: RaftId) -> Option<Departure> {
    if view.dismissed.is_some() {
        return view.dismissed;
    }
    if raft_id.0 >= view.state.next.raft || !view.spared {
        return None;
    }
    match view.state.nodes.get(&node) {
        None => Some(Departure::Removed),
        Some(node) if node.raft_id != Some(raft_id) => Some(Departure::Demoted),
        Some(_) => None,
    }
}

/// Makes the host of a demoted controller an agent's: another certificate, and no copy of the state with its secrets.
pub fn become_agent(
    config: &Config,
    cluster: &Cluster,
    identity: &Identity,
) -> Result<(), DepartureError> {
    let authority = Authority::of(cluster)?.with_life(config.signing().life);
    let made = authority.make_node(identity.node_id, Role::Agent, SystemTime::now())?;
    let agent = Identity { raft_id: None, role: Role::Agent, ..identity.clone() }.renewed(made);
    agent.save(&config.state_dir)?;
    remove(&config.raft_dir())
}

/// Puts the log of a superseded controller aside and makes its host an agent's. Answers with where the log is kept: it may
/// be the better one, if the cluster was restored by mistake.
pub fn put_aside(
    config: &Config,
    cluster: &Cluster,
    identity: &Identity,
) -> Result<PathBuf, DepartureError> {
    let from = config.raft_dir();
    let to = config.state_dir.join(format!("controller.of-{}", cluster.incarnation));
    fs::rename(&from, &to).map_err(|source| DepartureError::PutAside {
        from,
        to: to.clone(),
        source,
    })?;
    become_agent(config, cluster, identity)?;
    Ok(to)
}

fn remove(path: &Path) -> Result<(), DepartureError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DepartureError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::State;

    #[test]
    fn only_who_was_a_member_and_is_not_needed_departs() {
        let mut view = View::default();
        // It has just joined, and knows nothing yet.
        assert_eq!(departure(&view, NodeId(2), RaftId(2)), None);
        let mut state = State::default();
        state.next.raft = 3;
        view.state = Arc::new(state);
        assert_eq!(departure(&view, NodeId(2), RaftId(2)), None);
        view.spared = true;
        assert_eq!(departure(&view, NodeId(2), RaftId(2)), Some(Departure::Removed));
    }
}
