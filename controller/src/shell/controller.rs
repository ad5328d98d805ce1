//! What every service of this controller works with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::object::Cluster;
use swarm_proto::transport::{CONTROLLER_NAME, Tls};
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

use super::hub::{Hub, View};
use super::raft_thread::CoreHandle;
use super::refusal::Refusal;
use super::seal::DataKey;
use crate::config::Signing;

/// How long a request is held while no leader is known.
pub const LEADER_PATIENCE: Duration = Duration::from_secs(5);

/// This controller, for its services.
pub struct Controller {
    /// Its node.
    pub node: NodeId,
    /// Its member of the Raft group.
    pub raft_id: RaftId,
    /// Its cluster.
    pub cluster_id: String,
    /// The way to the core.
    pub core: CoreHandle,
    /// What the core publishes.
    pub hub: Arc<Hub>,
    /// Its certificate, for connections to others.
    pub tls: Arc<Tls>,
    /// How it signs certificates.
    pub signing: Signing,
    /// What its disk is wrapped with.
    pub data_key: Arc<DataKey>,
    /// The connection to the controller that was the leader last.
    leader_channel: Mutex<Option<(String, Channel)>>,
    /// The digest of the cluster's roots, and of which cluster object.
    pub(super) roots: Mutex<Option<(Arc<Cluster>, String)>>,
}

impl Controller {
    /// Puts one together.
    pub fn new(
        (node, raft_id, cluster_id): (NodeId, RaftId, String),
        core: CoreHandle,
        hub: Arc<Hub>,
        tls: Arc<Tls>,
        signing: Signing,
        data_key: Arc<DataKey>,
    ) -> Self {
        Self {
            node,
            raft_id,
            cluster_id,
            core,
            hub,
            tls,
            signing,
            data_key,
            leader_channel: Mutex::default(),
            roots: Mutex::default(),
        }
    }

    /// The cluster as this controller knows it; refuses while it has not been let in.
    pub fn cluster(&self) -> Result<Arc<Cluster>, Status> {
        self.hub.view().state.cluster.clone().ok_or_else(|| {
            Refusal::unavailable("this controller has not been let into the cluster yet").into()
        })
    }

    /// A connection to the leader at this address, kept for the next request.
    pub fn leader_channel(&self, address: &str) -> Channel {
        let mut kept = self.leader_channel.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((known, channel)) if known == address => channel.clone(),
            _ => {
                let channel = self.tls.channel(address, CONTROLLER_NAME);
                *kept = Some((address.to_owned(), channel.clone()));
                channel
            }
        }
    }

    /// Waits until somebody leads; refuses when nobody does by the deadline.
    pub async fn leader(&self, deadline: Instant) -> Result<Leader, Status> {
        if let Some(leader) = self.leader_of(&self.hub.view()) {
            return Ok(leader);
        }
        let mut views = self.hub.follow();
        let wait = async {
            loop {
                if let Some(leader) = self.leader_of(&views.borrow_and_update()) {
                    return leader;
                }
                if views.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        match tokio::time::timeout_at(deadline, wait).await {
            Ok(leader) => Ok(leader),
            Err(_) => Err(self.no_leader()),
        }
    }

    /// Who leads, as a way to reach it.
    pub fn leader_of(&self, view: &View) -> Option<Leader> {
        let raft_id = view.leader?;
        if raft_id == self.raft_id {
            return Some(Leader::Here);
        }
        let address = view.leader_address()?;
        Some(Leader::There { raft_id, address })
    }

    /// Waits until another than `raft_id` leads, or nobody.
    pub async fn leader_lost(&self, raft_id: RaftId) {
        let mut views = self.hub.follow();
        // An error means that the process is stopping.
        let _ = views.wait_for(|view| view.leader != Some(raft_id)).await;
    }

    /// The refusal for want of a leader.
    pub fn no_leader(&self) -> Status {
        let voters = self.hub.view().members.voters.len();
        let why = match voters {
            0 => String::from("this controller has not been let into the cluster yet"),
            1 => String::from("the cluster's only controller has not become leader yet"),
            _ => format!("{} of {voters} controllers must reach each other", voters / 2 + 1),
        };
        Refusal::unavailable(format!("no leader: {why}"))
            .hint("see that the other controllers run and can be reached, then try again; reads are answered with `--stale`")
            .into()
    }
}

/// Where the leader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leader {
    /// In this process.
    Here,
    /// Elsewhere.
    There {
        /// Its member of the Raft group.
        raft_id: RaftId,
        /// `host:port`
        address: String,
    },
}
