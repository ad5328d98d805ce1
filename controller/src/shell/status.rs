//! How the controllers are: this one's own numbers, and each other one's, asked with a short deadline. A quorum is not
//! needed for an answer.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use swarm_proto::convert::prefix;
use swarm_proto::failure::sentence;
use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::object::{Cluster, Rebalance};
use swarm_proto::transport::node_name;
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use tokio::time::timeout;
use tonic::Status;

use super::authority;
use super::controller::Controller;
use super::hub::View;

/// How long one controller may take to tell its numbers.
const ANSWER_WITHIN: Duration = Duration::from_millis(700);
/// How long a quorum may take to confirm the leader.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);

impl Controller {
    /// The state of the Raft group as this controller sees it.
    pub async fn cluster_status(
        &self,
        request: wire::GetClusterStatusRequest,
    ) -> Result<wire::ClusterStatus, Status> {
        let confirmed = async {
            let asked = !request.stale && !request.own;
            asked && matches!(timeout(CONFIRM_WITHIN, self.core.read_barrier()).await, Ok(true))
        };
        // What is shown is what was known after the confirmation.
        let confirmed = confirmed.await;
        let view = self.hub.view();
        let members = members(&view)
            .into_iter()
            .filter(|member| !request.own || member.raft_id == self.raft_id.0);
        let members = join_all(members.map(|member| self.complete(&view, member))).await;
        Ok(wire::ClusterStatus {
            stale: !confirmed,
            cluster_id: self.cluster_id.clone(),
            answered_by: self.raft_id.0,
            leader: view.leader.map_or(0, |leader| leader.0),
            members,
            clock: milliseconds(SystemTime::now()),
            cluster_version: view.state.cluster_version.0,
            rotation: authority::rotation(&view),
            locked: view.state.cluster.as_ref().is_some_and(|known| known.unlock_key.is_some()),
            root: view.state.cluster.as_deref().map(authority::root).unwrap_or_default(),
            networking: view.state.cluster.as_deref().map(networking),
            rebalance: view.state.cluster.as_deref().map(rebalance),
        })
    }

    async fn complete(&self, view: &View, mut member: wire::MemberStatus) -> wire::MemberStatus {
        let raft_id = RaftId(member.raft_id);
        let told = if raft_id == self.raft_id {
            self.own_numbers().await
        } else {
            self.ask_numbers(&member).await
        };
        member.reachable = told.is_ok();
        match told {
            Ok(numbers) => member.numbers = Some(numbers),
            Err(why) => member.error = why,
        }
        // A connection that is not known to be lost yet says nothing of since when.
        let contact = view.contacts.get(&raft_id);
        let contact = contact.filter(|contact| contact.connected == member.reachable);
        member.since = contact.map_or(0, |contact| milliseconds(contact.since));
        member
    }

    /// What this controller says of itself.
    async fn own_numbers(&self) -> Result<wire::ControllerNumbers, String> {
        let status = self.core.status().await.ok_or("it is stopping")?;
        let validity = self.tls.validity();
        Ok(wire::ControllerNumbers {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            term: status.term,
            commit: status.commit,
            applied: status.applied,
            leader: status.leader.map_or(0, |leader| leader.0),
            sync_p50: status.timing.sync_p50,
            sync_p99: status.timing.sync_p99,
            election_timeout: Some(status.timing.election_ms),
            certificate_from: validity.map(|(from, _)| milliseconds(from)),
            certificate_until: validity.map(|(_, until)| milliseconds(until)),
            syncs: Some(self.hub.writes.count.load(Ordering::Relaxed)),
            knows: self.hub.knows.0,
            checksum: status.checksum,
            key_wrapped: self.data_key.unlock_key().is_some(),
            sync_time: Some(self.hub.writes.micros.load(Ordering::Relaxed)),
            full_disk: status
                .shortage
                .map(|shortage| wire::FullDisk { path: shortage.path, free: shortage.free }),
        })
    }

    async fn ask_numbers(
        &self,
        member: &wire::MemberStatus,
    ) -> Result<wire::ControllerNumbers, String> {
        if member.address.is_empty() {
            return Err(String::from("its address is not known"));
        }
        let ask = async {
            let name = node_name(NodeId(member.node));
            let connected = self.tls.connect(&member.address, &name).await;
            let channel = connected.map_err(|error| sentence(&error))?;
            let request = wire::GetClusterStatusRequest { stale: true, own: true };
            let answer = ControlClient::new(channel).get_cluster_status(request).await;
            let mut members =
                answer.map_err(|status| status.message().to_owned())?.into_inner().members;
            members.pop().and_then(|own| own.numbers).ok_or_else(|| String::from("it said nothing"))
        };
        let late = || format!("it did not answer within {} ms", ANSWER_WITHIN.as_millis());
        timeout(ANSWER_WITHIN, ask).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Every controller of the state and every member of the Raft group, by Raft id.
fn members(view: &View) -> Vec<wire::MemberStatus> {
    let nodes = view.state.nodes.values();
    let mut members: Vec<wire::MemberStatus> = nodes
        .filter_map(|node| {
            let raft_id = node.raft_id?;
            Some(wire::MemberStatus {
                raft_id: raft_id.0,
                node: node.id.0,
                hostname: node.description.hostname.clone(),
                address: node.controller_address.clone().unwrap_or_default(),
                member: kind(view, raft_id).unwrap_or("joining").to_owned(),
                ..wire::MemberStatus::default()
            })
        })
        .collect();
    let group = view.members.voters.iter().chain(&view.members.learners);
    for raft_id in group {
        if members.iter().all(|member| member.raft_id != raft_id.0) {
            let member = String::from("leaving");
            members.push(wire::MemberStatus { raft_id: raft_id.0, member, ..Default::default() });
        }
    }
    members.sort_by_key(|member| member.raft_id);
    members
}

fn kind(view: &View, raft_id: RaftId) -> Option<&'static str> {
    if view.members.voters.contains(&raft_id) {
        return Some("voter");
    }
    view.members.learners.contains(&raft_id).then_some("learner")
}

/// What was chosen for the networks when the cluster was made.
fn networking(cluster: &Cluster) -> wire::ClusterNetworking {
    wire::ClusterNetworking {
        address_pools: cluster.address_pools.iter().copied().map(prefix).collect(),
        subnet_prefix_length: cluster.subnet_prefix_length.into(),
        vxlan_port: cluster.vxlan_port.into(),
        vni_base: cluster.vni_base,
    }
}

/// How tasks are moved.
fn rebalance(cluster: &Cluster) -> wire::ClusterRebalance {
    let Rebalance { mode, moves_per_minute, .. } = cluster.rebalance;
    wire::ClusterRebalance { mode: mode.into(), moves_per_minute }
}

/// Since the epoch.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
