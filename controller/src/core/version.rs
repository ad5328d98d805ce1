//! What the programs of the controllers know, and what may be written because of it.

use std::collections::BTreeMap;

use prost::Message as _;
use swarm_proto::entry::{Action, Entry};
use swarm_proto::id::RaftId;
use swarm_proto::object::Node;
use swarm_proto::version::ClusterVersion;
use swarm_proto::wire;

use super::command::Refusal;
use super::output::Members;
use super::rules::name_of;
use super::state::State;

/// The program that a controller runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// The highest cluster version that it knows.
    pub knows: ClusterVersion,
    /// Its release, such as `0.1.0`; empty when it did not say.
    pub release: String,
}

/// The programs of all controllers, as each said by itself. Nothing of it is replicated: who has not said it in this
/// process's life is taken for unknown.
#[derive(Debug)]
pub(super) struct Programs {
    known: BTreeMap<RaftId, Program>,
    knows: ClusterVersion,
}

impl Programs {
    pub(super) fn new(own: RaftId, knows: ClusterVersion) -> Self {
        let release = env!("CARGO_PKG_VERSION").to_owned();
        Self { known: [(own, Program { knows, release })].into(), knows }
    }

    /// A controller said what it runs. Those that are gone for good are forgotten.
    pub(super) fn told(&mut self, peer: RaftId, program: Program, state: &State) {
        self.known.insert(peer, program);
        let next = state.next.raft;
        let stays = |id: &RaftId| state.nodes.values().any(|node| node.raft_id == Some(*id));
        self.known.retain(|id, _| id.0 >= next || stays(id));
    }

    /// The version that the leader should raise the cluster to: all members of the Raft group and all controllers of the
    /// state have said that they know it.
    pub(super) fn raise(&self, state: &State, members: &Members) -> Option<ClusterVersion> {
        if state.cluster_version >= self.knows {
            return None;
        }
        let of_state = state.nodes.values().filter_map(|node| node.raft_id);
        let of_group = members.voters.iter().chain(&members.learners).copied();
        let known: Option<Vec<ClusterVersion>> =
            of_state.chain(of_group).map(|id| Some(self.known.get(&id)?.knows)).collect();
        known?.into_iter().min().filter(|version| *version > state.cluster_version)
    }

    /// Refuses actions that some controller would not understand.
    pub(super) fn allow(&self, state: &State, actions: &[Action]) -> Result<(), Refusal> {
        let needed = actions.iter().map(Action::needs).max().unwrap_or_default();
        if needed <= state.cluster_version {
            return Ok(());
        }
        let is_old = |node: &&Node| {
            let program = node.raft_id.and_then(|id| self.known.get(&id));
            node.raft_id.is_some() && program.is_none_or(|program| program.knows < needed)
        };
        let runs = |node: &Node| match node.raft_id.and_then(|id| self.known.get(&id)) {
            None => format!("`{}` has not said what it runs", name_of(node)),
            Some(program) if program.release.is_empty() => {
                format!("`{}` still runs an older release", name_of(node))
            }
            Some(program) => format!("`{}` still runs {}", name_of(node), program.release),
        };
        let nodes = state.nodes.values().map(|node| &**node);
        let old: Vec<String> = nodes.filter(is_old).map(runs).collect();
        let message = format!(
            "this needs cluster version {needed}, and the cluster has version {}",
            state.cluster_version
        );
        if old.is_empty() {
            // The leader raises it with the next tick.
            return Err(Refusal::unavailable(format!("{message}: try again")));
        }
        let hint = "upgrade and start the controllers that are named, or raise their `cluster_version_at_most`, then try again";
        Err(Refusal::conflict(format!("{message}: {}", old.join(", ")), hint))
    }
}

/// Reads an entry of the log, which begins at `index`. An entry that this program would apply only in part is refused.
pub(super) fn read_entry(index: u64, data: &[u8], knows: ClusterVersion) -> Result<Entry, String> {
    let unreadable = |why: String| format!("entry {index} of the log cannot be read: {why}");
    let entry = wire::Entry::decode(data).map_err(|error| unreadable(error.to_string()))?;
    let needs = ClusterVersion::from_wire(entry.needs);
    if needs > knows {
        return Err(newer(needs, knows));
    }
    Entry::try_from(entry).map_err(|error| unreadable(error.to_string()))
}

/// Why this program cannot work for a cluster.
pub(super) fn newer(found: ClusterVersion, knows: ClusterVersion) -> String {
    format!(
        "the cluster has version {found}, and this program (release {}) knows versions up to {knows}\n\nhint: install the release that the other controllers run, or raise `cluster_version_at_most` where that is set",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Command;
    use crate::core::rules::command;
    use swarm_proto::id::Timestamp;
    use swarm_proto::object::Role;

    const FIRST: ClusterVersion = ClusterVersion::FIRST;
    const SECOND: ClusterVersion = ClusterVersion(2);

    /// A state with controllers n1…, whose group this is.
    fn cluster(controllers: u64) -> (State, Members) {
        let mut state = State::default();
        for number in 1..=controllers {
            let join = Command::Join {
                hostname: format!("n{number}"),
                role: Role::Controller,
                controller_address: Some(format!("n{number}:2377")),
            };
            let decided = command::decide(&state, &join, Timestamp(1)).unwrap();
            let group = decided.into_group(&state);
            assert!(state.apply_group(&group, &mut Vec::new()));
        }
        let voters = (1..=controllers).map(RaftId).collect();
        (state, Members { voters, learners: Vec::new() })
    }

    fn program(knows: ClusterVersion, release: &str) -> Program {
        Program { knows, release: release.to_owned() }
    }

    #[test]
    fn the_version_rises_once_everybody_has_said_that_they_know_it() {
        let (mut state, mut members) = cluster(3);
        let mut programs = Programs::new(RaftId(1), SECOND);
        assert_eq!(programs.raise(&state, &members), None, "nobody else has spoken");
        programs.told(RaftId(2), program(SECOND, "0.2.0"), &state);
        programs.told(RaftId(3), program(FIRST, "0.1.0"), &state);
        assert_eq!(programs.raise(&state, &members), None, "n3 is old");
        programs.told(RaftId(3), program(SECOND, "0.2.0"), &state);
        assert_eq!(programs.raise(&state, &members), Some(SECOND));
        members.learners.push(RaftId(9));
        assert_eq!(programs.raise(&state, &members), None, "one that leaves may still vote");
        members.learners.clear();
        state.cluster_version = SECOND;
        assert_eq!(programs.raise(&state, &members), None);
    }

    #[test]
    fn what_an_old_controller_would_not_understand_is_refused_with_its_name() {
        let (state, _) = cluster(3);
        let mut programs = Programs::new(RaftId(1), SECOND);
        programs.told(RaftId(2), program(FIRST, "0.1.0"), &state);
        let new = [Action::SetClusterVersion(SECOND)];
        let refusal = programs.allow(&state, &new).unwrap_err();
        assert_eq!(
            refusal.message,
            "this needs cluster version 2, and the cluster has version 1: `n2` still runs 0.1.0, `n3` has not said what it runs"
        );
        assert_eq!(programs.allow(&state, &[Action::RemoveStack("a".into())]), Ok(()));
    }

    #[test]
    fn an_entry_for_a_later_version_is_refused_whole_and_unknown_fields_of_this_one_are_passed_over()
     {
        let known = wire::Entry { time: 7, needs: 2, ..wire::Entry::default() };
        let read = |entry: &[u8], knows| read_entry(9, entry, knows);
        let mut bytes = known.encode_to_vec();
        assert_eq!(read(&bytes, SECOND).unwrap().time, Timestamp(7));
        assert_eq!(read(&bytes, FIRST).unwrap_err(), newer(SECOND, FIRST));
        // Field 1000, three bytes: something that a later program may add where passing over it is right.
        bytes.extend([0xc2, 0x3e, 3, b'n', b'e', b'w']);
        assert_eq!(read(&bytes, SECOND).unwrap().time, Timestamp(7));
        // An action of an unknown kind is not passed over.
        let group = wire::Group { actions: vec![wire::Action::default()], ..Default::default() };
        let unknown = wire::Entry { groups: vec![group], ..wire::Entry::default() };
        let refused = read(&unknown.encode_to_vec(), SECOND).unwrap_err();
        assert!(refused.starts_with("entry 9 of the log cannot be read: "), "{refused}");
        assert!(refused.ends_with("is not known"), "{refused}");
    }
}
