//! A new cluster of one member from what the disk of an old one's survivor holds, for when the others are lost for good.

use prost_for_raft::Message as _;
use raft::eraftpb::{ConfState, EntryType, HardState};
use swarm_proto::entry::{Action, Entry, Group};
use swarm_proto::id::{NodeId, RaftId, Timestamp};
use swarm_proto::version::ClusterVersion;

use super::log::Log;
use super::output::{DiskBatch, DiskSnapshot, Recovered, SnapshotBody};
use super::version::read_entry;
use super::{StartError, State, member, state};

/// What becomes of the survivor's disk.
#[derive(Debug)]
pub struct Survivor {
    /// Replaces the whole log.
    pub batch: DiskBatch,
    /// The survivor's new member of the Raft group, the only one.
    pub raft_id: RaftId,
    /// The names of the nodes whose controllers are given up.
    pub given_up: Vec<String>,
}

/// Keeps everything that the survivor's log holds, also what it does not know to be committed: that may have been
/// acknowledged. The nodes of the other controllers stay as agents'. `mark` is random, for the cluster's new incarnation.
pub fn survive(
    recovered: &Recovered,
    node: NodeId,
    now: Timestamp,
    mark: u64,
) -> Result<Survivor, StartError> {
    let mut state = replay(recovered)?;
    let unknown = |what: &str| StartError::Recovered(format!("the log does not know {what}"));
    let mut cluster = state.cluster.as_deref().cloned().ok_or_else(|| unknown("a cluster"))?;
    cluster.incarnation = cluster.incarnation.next(state.clock.max(now), mark);
    let own = state.nodes.get(&node).ok_or_else(|| unknown("this host's node"))?;
    let address = own.controller_address.clone();
    let address = address.ok_or_else(|| unknown("this host as a controller"))?;
    let raft_id = RaftId(state.next.raft);
    let others =
        || state.nodes.values().filter(|other| other.id != node && other.raft_id.is_some());
    let given_up = others().map(|other| other.description.hostname.clone()).collect();
    let give_up = |id: NodeId| Action::SetNodeController { node: id, controller: None };
    let mut actions = vec![Action::SetCluster(Box::new(cluster))];
    if state.cluster_version < ClusterVersion::NEWEST {
        // Its only controller is this program.
        actions.push(Action::SetClusterVersion(ClusterVersion::NEWEST));
    }
    actions.extend(others().map(|other| give_up(other.id)));
    actions.push(Action::SetNodeController { node, controller: Some((raft_id, address)) });
    let groups = vec![Group { actions, ..Group::default() }];
    let applied = state::apply(&mut state, &Entry { time: now, checksum: 0, groups });
    if applied.groups != [true] {
        return Err(unknown("a node that it names"));
    }
    state.applied += 1;
    let term = last_term(recovered)? + 1;
    Ok(Survivor { batch: whole(&state, term, raft_id), raft_id, given_up })
}

/// The state after everything in the log.
fn replay(recovered: &Recovered) -> Result<State, StartError> {
    let (_, snapshot) = Log::recover(recovered)?;
    let mut state = match &snapshot {
        Some(snapshot) => super::read_snapshot(snapshot, ClusterVersion::NEWEST)?,
        None => State::default(),
    };
    for stored in &recovered.entries {
        if stored.index <= state.applied {
            continue;
        }
        let broken = |why: &dyn std::fmt::Display| {
            StartError::Recovered(format!("entry {}: {why}", stored.index))
        };
        let entry = raft::eraftpb::Entry::decode(stored.data.as_slice());
        let entry = entry.map_err(|error| broken(&error))?;
        state.applied = stored.index;
        if entry.get_entry_type() != EntryType::EntryNormal || entry.data.is_empty() {
            continue;
        }
        let decoded = read_entry(stored.index, &entry.data, ClusterVersion::NEWEST)
            .map_err(StartError::Recovered)?;
        if !state::apply(&mut state, &decoded).checksum_matches {
            return Err(broken(&"the state before it is not the one that it was written for"));
        }
    }
    Ok(state)
}

fn last_term(recovered: &Recovered) -> Result<u64, StartError> {
    let hard_state = recovered.hard_state.as_deref().unwrap_or_default();
    let hard_state = HardState::decode(hard_state)
        .map_err(|error| StartError::Recovered(format!("the hard state: {error}")))?;
    let last = recovered.entries.last().map_or(0, |entry| entry.term);
    let snapshot = recovered.snapshot.as_ref().map_or(0, |(_, term, _)| *term);
    Ok(hard_state.term.max(last).max(snapshot))
}

/// A whole disk: the state, and one voter.
pub(super) fn whole(state: &State, term: u64, voter: RaftId) -> DiskBatch {
    let conf_state = ConfState { voters: vec![voter.0], ..ConfState::default() };
    let hard_state = HardState { term, vote: 0, commit: state.applied };
    let snapshot = member::snapshot::make(state, term, conf_state);
    DiskBatch {
        number: 1,
        truncate_from: Some(0),
        snapshot: Some(DiskSnapshot {
            index: state.applied,
            term,
            body: SnapshotBody::Encoded(snapshot.encode_to_vec()),
        }),
        compact_to: None,
        entries: Vec::new(),
        hard_state: Some(hard_state.encode_to_vec()),
    }
}
